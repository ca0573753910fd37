package plugin

import (
	"context"
	"errors"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/values"
	"google.golang.org/grpc"
)

// Invoke does an operation.
func (s *service) Invoke(request *pluginv1.InvokeRequest, stream grpc.ServerStreamingServer[pluginv1.InvokeResponse]) error {
	op := s.plugin.byName[request.Operation]
	if op == nil {
		known := strings.Join(slices.Sorted(maps.Keys(s.plugin.byName)), ", ")
		return Errorf(NotFound, "no operation %q; there are %s", request.Operation, known).Reason("OPERATION_UNKNOWN")
	}
	if request.DryRun && !op.spec.DryRun {
		return Errorf(FailedPrecondition, "the operation %q knows no dry run", request.Operation).Reason("DRY_RUN_UNKNOWN")
	}
	if !s.configured() {
		return Errorf(FailedPrecondition, "the plugin is not configured yet; call Configure first").Reason("NOT_CONFIGURED")
	}
	ctx := stream.Context()
	if _, ok := ctx.Deadline(); !ok {
		limited, cancel := context.WithTimeout(ctx, op.timeout())
		defer cancel()
		ctx = limited
	}
	ctx, leave, err := s.gate.enter(ctx)
	switch {
	case errors.Is(err, errDraining):
		return Errorf(Unavailable, "the plugin drains and takes no calls").Reason("DRAINING")
	case err != nil:
		return Errorf(ResourceExhausted, "%d calls are in work, and there may be no more", s.gate.limit).Reason("BUSY").RetryAfter(time.Second)
	}
	defer leave()
	call := &Call{service: s, ctx: ctx, request: request, op: op, stream: stream}
	output, err := call.perform()
	if err == nil {
		err = call.finish(output)
	}
	call.end()
	return statusOf(ctx, err)
}

// perform checks the input and runs the handler, and turns its panics into errors.
func (c *Call) perform() (output any, err error) {
	defer recovered(&err)
	text, blob, err := values.Text(c.request.Input, "{}")
	if err != nil {
		return nil, Errorf(InvalidArgument, "the input cannot be read: %w", err)
	}
	if blob != nil {
		return nil, Errorf(InvalidArgument, "the input is a blob; a call carries its input inline, at most 1 MiB").Reason("INPUT_TOO_LARGE")
	}
	if wrong := c.op.input.Check(text, "input"); len(wrong) > 0 {
		return nil, fault.Invalid(wrong...).Reason("INPUT_INVALID")
	}
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	return c.op.invoke(c.ctx, c, text)
}

// finish sends what the handler returned or wrote, and what it said that it did.
func (c *Call) finish(output any) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	result := &pluginv1.Result{Would: c.would, Actions: c.actions}
	if c.writer == nil {
		text, err := values.Encode(output)
		if err != nil {
			return Errorf(Internal, "the output of %q is no JSON: %w", c.op.spec.Name, err)
		}
		if len(text) <= inlineBytes {
			result.Output = values.Payload(text)
		} else if err := c.chunks(text); err != nil {
			return err
		}
	}
	if c.writer != nil {
		if c.writer.flush(); c.writer.failed != nil {
			return c.writer.failed
		}
		result.MediaType = c.writer.mediaType
	}
	return c.stream.Send(&pluginv1.InvokeResponse{Kind: &pluginv1.InvokeResponse_Result{Result: result}})
}

// chunks sends JSON text that is too large for one message. The lock is held.
func (c *Call) chunks(text []byte) error {
	c.writer = &Writer{call: c, mediaType: jsonType}
	for chunk := range slices.Chunk(text, chunkBytes) {
		c.writer.buffer = chunk
		if c.writer.flush(); c.writer.failed != nil {
			return c.writer.failed
		}
	}
	c.writer.buffer = nil
	return nil
}

// end drops what goroutines of the handler still say: the stream is not theirs any more.
func (c *Call) end() {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.over = true
}

// recovered turns a panic into an error; it is deferred.
func recovered(err *error) {
	if value := recover(); value != nil {
		*err = fault.Panicked(value, debug.Stack())
	}
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
