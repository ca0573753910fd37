// Package sdk names this SDK. Plugins are written with package plugin and tested with package plugintest; workers are written with
// package worker.
package sdk

// Version of this SDK, as semantic version.
const Version = "0.1.0"

// Name is what plugins and workers say they are built with.
const Name = "go " + Version
