package plugintest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"time"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/values"
	"github.com/consort-mesh/consort/plugins/sdk-go/plugin"
	"google.golang.org/grpc/codes"
)

const (
	resultLimit  = 256 * 1024 * 1024
	usualTimeout = 30 * time.Second
	callID       = "00000000-0000-4000-8000-000000000000"
)

// Result is what a call led to.
type Result[Output any] struct {
	// Output is what the operation yielded; for a plugin.Blob, what the mesh fills in.
	Output Output
	// Bytes is what was written with Call.Writer.
	Bytes []byte
	// Progress is what the call said about how far it is.
	Progress []Progress
	// Logs is what it logged.
	Logs []Log
	// Would is what a dry run said would be done.
	Would []string
	// Actions is what it said it did, for the audit log.
	Actions []string
}

// Progress is how far a call was.
type Progress struct {
	Fraction float64
	Message  string
}

// Log is a line of a call's log.
type Log struct {
	Level   plugin.Level
	Message string
}

// call is how a call is made.
type call struct {
	ctx     context.Context
	timeout time.Duration
	request *pluginv1.InvokeRequest
}

// CallOption sets up a call.
type CallOption func(*call)

// DryRun asks to say what would be done, and to do nothing.
func DryRun() CallOption { return func(c *call) { c.request.DryRun = true } }

// IdempotencyKey is the call's key.
func IdempotencyKey(key string) CallOption {
	return func(c *call) { c.request.IdempotencyKey = key }
}

// From says on whose behalf the call is made.
func From(origin plugin.Origin) CallOption {
	return func(c *call) {
		c.request.Origin = &pluginv1.Origin{Namespace: origin.Namespace, Step: origin.Step, Agent: origin.Agent}
	}
}

// Within makes the call with a context: when it ends, the call is cancelled.
func Within(ctx context.Context) CallOption { return func(c *call) { c.ctx = ctx } }

// Timeout is the call's deadline, 30 s if it is left out.
func Timeout(timeout time.Duration) CallOption { return func(c *call) { c.timeout = timeout } }

// Invoke does an operation. The input is in any type that JSON can say, the output is decoded into Output; it is checked against the
// operation's schema first, as the mesh does. The error is the call's status: status.Code(err) has the code, fault.Read(err, 0) the details.
// What was said before a failure is in the result, too.
func Invoke[Output any](m *Mesh, operation string, input any, options ...CallOption) (Result[Output], error) {
	var result Result[Output]
	text, err := values.Encode(input)
	if err != nil {
		return result, err
	}
	c := &call{ctx: m.t.Context(), timeout: usualTimeout, request: &pluginv1.InvokeRequest{
		Operation: operation, Input: values.Payload(text), CallId: callID, IdempotencyKey: callID,
	}}
	for _, option := range options {
		option(c)
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.timeout)
	defer cancel()
	stream, err := m.client.Invoke(ctx, c.request)
	if err != nil {
		return result, err
	}
	var end *pluginv1.Result
	var bytes bytes.Buffer
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			break
		} else if err != nil {
			return result, err
		}
		switch kind := message.Kind.(type) {
		case *pluginv1.InvokeResponse_Progress:
			result.Progress = append(result.Progress, Progress{kind.Progress.Fraction, kind.Progress.Message})
		case *pluginv1.InvokeResponse_Log:
			result.Logs = append(result.Logs, Log{plugin.Level(kind.Log.Level), kind.Log.Message})
		case *pluginv1.InvokeResponse_Chunk:
			if bytes.Len()+len(kind.Chunk) > resultLimit {
				return result, fault.Errorf(codes.ResourceExhausted, "the result has more than 256 MiB")
			}
			bytes.Write(kind.Chunk)
		case *pluginv1.InvokeResponse_Result:
			end = kind.Result
		}
	}
	if end == nil {
		return result, fault.Errorf(codes.Internal, "the call ended without a result")
	}
	result.Would, result.Actions, result.Bytes = end.Would, end.Actions, bytes.Bytes()
	output, err := outputOf(end, bytes.Bytes())
	if err != nil {
		return result, err
	}
	if wrong := m.outputs[operation].Check(output, "output"); len(wrong) > 0 {
		return result, fault.Errorf(codes.Internal, "the output does not match its schema: %w", fault.Invalid(wrong...)).Reason("OUTPUT_INVALID")
	}
	return result, json.Unmarshal(output, &result.Output)
}

// outputOf is the output as JSON text, made of a result and its chunks as the mesh does it.
func outputOf(end *pluginv1.Result, chunks []byte) ([]byte, error) {
	switch end.MediaType {
	case "":
		text, _, err := values.Text(end.Output, "null")
		return text, err
	case "application/json":
		return chunks, nil
	}
	digest := sha256.Sum256(chunks)
	return values.Encode(plugin.Blob{
		SHA256: hex.EncodeToString(digest[:]), SizeBytes: int64(len(chunks)), MediaType: end.MediaType,
	})
}
