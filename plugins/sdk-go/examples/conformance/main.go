// A plugin with the operations that `consort plugin test` looks for, the same in every language.
package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	"github.com/consort-mesh/consort/plugins/sdk-go/plugin"
)

type text struct {
	Text string `json:"text" jsonschema:"Any text."`
}

type countTo struct {
	To      int `json:"to" minimum:"0" maximum:"1000000" jsonschema:"Where to stop."`
	DelayMS int `json:"delay_ms" default:"0" minimum:"0" maximum:"60000" jsonschema:"Milliseconds between two numbers."`
}

type counted struct {
	Total int `json:"total" jsonschema:"How many numbers there were."`
}

type nap struct {
	MS int `json:"ms" minimum:"0" maximum:"3600000" jsonschema:"Milliseconds to sleep."`
}

type slept struct {
	SleptMS int64 `json:"slept_ms" jsonschema:"Milliseconds that passed."`
}

type size struct {
	MiB int `json:"mib" minimum:"0" maximum:"4096" jsonschema:"How many MiB to yield."`
}

type failure struct {
	Code    string `json:"code" jsonschema:"Name of a gRPC status code, for example NOT_FOUND."`
	Message string `json:"message" jsonschema:"What to say."`
}

type file struct {
	Path string `json:"path" minLength:"1" jsonschema:"Where to write; relative to the plugin's own folder."`
	Text string `json:"text" jsonschema:"What to write."`
}

type written struct {
	Bytes int `json:"bytes" jsonschema:"How many bytes were written, or would be."`
}

type nothing struct{}

func main() {
	p := plugin.New("conformance", "1.0.0", "Does what a plugin must be able to do, for tests of the mesh and of this SDK.")
	plugin.Operation(p, plugin.Spec{Name: "echo", Description: "Yields what it gets.", Effect: plugin.Read}, echo)
	plugin.Operation(p, plugin.Spec{Name: "count", Description: "Counts, and tells how far it is.", Effect: plugin.Read}, count)
	plugin.Operation(p, plugin.Spec{Name: "sleep", Description: "Sleeps until the time is up or the call is cancelled.", Effect: plugin.Read}, sleep)
	plugin.Operation(p, plugin.Spec{Name: "large", Description: "Yields many bytes.", Effect: plugin.Read}, large)
	plugin.Operation(p, plugin.Spec{Name: "fail", Description: "Fails as it is told.", Effect: plugin.Read}, fail)
	plugin.Operation(p, plugin.Spec{Name: "crash", Description: "Ends the process with status 7.", Effect: plugin.Write}, crash)
	plugin.Operation(p, plugin.Spec{Name: "write", Description: "Writes a file.", Effect: plugin.Write, DryRun: true}, write)
	p.Main()
}

func echo(_ context.Context, _ *plugin.Call, in text) (text, error) { return in, nil }

func count(ctx context.Context, call *plugin.Call, in countTo) (counted, error) {
	for n := 1; n <= in.To; n++ {
		if err := wait(ctx, in.DelayMS); err != nil {
			return counted{}, err
		}
		call.Progress(float64(n)/float64(in.To), "counting")
	}
	call.Log(plugin.LevelInfo, "counted")
	return counted{Total: in.To}, nil
}

func sleep(ctx context.Context, _ *plugin.Call, in nap) (slept, error) {
	began := time.Now()
	err := wait(ctx, in.MS)
	return slept{SleptMS: time.Since(began).Milliseconds()}, err
}

func large(_ context.Context, call *plugin.Call, in size) (plugin.Blob, error) {
	out := call.Writer("application/octet-stream")
	piece := make([]byte, 1024*1024)
	for i := range piece {
		piece[i] = byte(i)
	}
	for range in.MiB {
		if _, err := out.Write(piece); err != nil {
			return plugin.Blob{}, err
		}
	}
	return plugin.Blob{}, nil
}

func fail(_ context.Context, _ *plugin.Call, in failure) (nothing, error) {
	code, ok := fault.Code(in.Code)
	if !ok {
		return nothing{}, plugin.Errorf(plugin.InvalidArgument, "%q is no code", in.Code).Field("code", "is no gRPC status code")
	}
	return nothing{}, plugin.Errorf(code, "%s", in.Message)
}

func crash(context.Context, *plugin.Call, nothing) (nothing, error) {
	os.Exit(7)
	return nothing{}, nil
}

func write(_ context.Context, call *plugin.Call, in file) (written, error) {
	path := in.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(call.DataDir(), path)
	}
	if call.DryRun() {
		call.Would("write %d bytes to %s", len(in.Text), path)
		return written{Bytes: len(in.Text)}, nil
	}
	if err := os.WriteFile(path, []byte(in.Text), 0o644); err != nil {
		return written{}, err
	}
	call.Did("wrote %d bytes to %s", len(in.Text), path)
	return written{Bytes: len(in.Text)}, nil
}

// wait fails when the call is over before the time is up.
func wait(ctx context.Context, ms int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return nil
	}
}
