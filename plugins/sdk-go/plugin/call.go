package plugin

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	progressLimit = 1024
	logLimit      = 8 * 1024
	lineLimit     = 1024
	linesLimit    = 1000
)

// Level is how much a line of log matters.
type Level string

// The levels of a log.
const (
	LevelDebug Level = "debug"
	LevelInfo  Level = "info"
	LevelWarn  Level = "warn"
	LevelError Level = "error"
)

// Origin says on whose behalf a call is made. Empty fields: nobody's.
type Origin struct {
	// Namespace is `namespaces/{namespace}`.
	Namespace string
	// Step is `namespaces/{namespace}/runs/{uuid}/steps/{step}`.
	Step string
	// Agent is the agent that called.
	Agent string
}

// Call is one call of an operation. Its methods may be used from any goroutine until the handler returns; what is said after that is
// dropped. They wait while the mesh does not read.
type Call struct {
	service *service
	ctx     context.Context
	request *pluginv1.InvokeRequest
	op      *operation
	stream  sender

	// sending guards the stream and everything below.
	sending sync.Mutex
	over    bool
	writer  *Writer
	would   []string
	actions []string
}

// sender is the end of the stream that answers are put into.
type sender interface {
	Send(*pluginv1.InvokeResponse) error
}

// ID is the UUID of this call, for logs.
func (c *Call) ID() string { return c.request.GetCallId() }

// DryRun tells whether to say what would be done with [Call.Would], and do nothing. It is never true for operations without Spec.DryRun.
func (c *Call) DryRun() bool { return c.request.GetDryRun() }

// IdempotencyKey is equal for all tries of the same call: hand it to receivers that can tell repeats.
func (c *Call) IdempotencyKey() string { return c.request.GetIdempotencyKey() }

// Origin says on whose behalf the call is made.
func (c *Call) Origin() Origin {
	origin := c.request.GetOrigin()
	return Origin{Namespace: origin.GetNamespace(), Step: origin.GetStep(), Agent: origin.GetAgent()}
}

// Permissions is what the operator granted. The sandbox holds the process to it, except for `capabilities`: those are the plugin's to check,
// see [Call.Require].
func (c *Call) Permissions() *pluginv1.Permissions { return c.service.permissions() }

// Require fails with PERMISSION_DENIED, and the line of the manifest that asks for it, if a capability that the plugin names itself is
// not granted.
func (c *Call) Require(capability string) error {
	for _, granted := range c.Permissions().GetCapabilities() {
		if granted == capability {
			return nil
		}
	}
	return Errorf(PermissionDenied, "the capability %q is not granted; it takes `capabilities = [%q]` under [permissions] in the manifest, and the operator's consent",
		capability, capability).Reason("CAPABILITY_DENIED")
}

// Host is the mesh, for secrets, kept values and events.
func (c *Call) Host() *Host { return c.service.host }

// DataDir is the plugin's own folder, which stays when it ends.
func (c *Call) DataDir() string { return c.service.dataDir }

// Progress says how far the call is, from 0 to 1 (negative if that is not known), and what it does now, in a few words.
func (c *Call) Progress(fraction float64, message string) {
	if math.IsNaN(fraction) {
		fraction = -1
	}
	c.say(&pluginv1.InvokeResponse{Kind: &pluginv1.InvokeResponse_Progress{Progress: &pluginv1.Progress{
		Fraction: min(fraction, 1), Message: fault.Cut(message, progressLimit),
	}}})
}

// Log writes a line into the call's log; what is longer than 8 KiB is cut. A level that is none is taken as info.
func (c *Call) Log(level Level, message string) {
	switch level {
	case LevelDebug, LevelInfo, LevelWarn, LevelError:
	default:
		level = LevelInfo
	}
	c.say(&pluginv1.InvokeResponse{Kind: &pluginv1.InvokeResponse_Log{Log: &pluginv1.Log{
		Time: timestamppb.Now(), Level: string(level), Message: fault.Cut(message, logLimit),
	}}})
}

// Would says what would be done, for a dry run: one line an action, at most 1,000.
func (c *Call) Would(format string, arguments ...any) {
	c.note(&c.would, fmt.Sprintf(format, arguments...))
}

// Did says what was done to the world, for the audit log: one line an action, at most 1,000.
func (c *Call) Did(format string, arguments ...any) {
	c.note(&c.actions, fmt.Sprintf(format, arguments...))
}

func (c *Call) note(lines *[]string, line string) {
	c.sending.Lock()
	defer c.sending.Unlock()
	switch {
	case c.over || len(*lines) > linesLimit:
	case len(*lines) == linesLimit:
		*lines = append(*lines, "and more, which did not fit")
	default:
		*lines = append(*lines, fault.Cut(line, lineLimit))
	}
}

// say sends a message. When the stream is broken the context has ended, which is how the handler learns of it.
func (c *Call) say(message *pluginv1.InvokeResponse) {
	c.sending.Lock()
	defer c.sending.Unlock()
	if !c.over {
		_ = c.stream.Send(message)
	}
}
