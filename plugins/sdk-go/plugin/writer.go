package plugin

import (
	"io"

	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
)

const (
	chunkBytes  = 256 * 1024
	inlineBytes = 1024 * 1024
	jsonType    = "application/json"
)

// Writer takes the bytes of a large result. It holds 256 KiB at most and waits while the mesh does not read.
type Writer struct {
	call      *Call
	mediaType string
	buffer    []byte
	failed    error
}

var _ io.Writer = (*Writer)(nil)

// Writer takes a result that is too large for one message, such as a file. The operation's Output is [Blob], whose value the mesh fills
// in; the one that the handler returns is not looked at. With the media type `application/json` the bytes are the output itself, as JSON
// text, and must match the schema of Output. There is one writer in a call: asking again returns the same.
func (c *Call) Writer(mediaType string) *Writer {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.writer != nil {
		if c.writer.mediaType != mediaType {
			c.writer.failed = Errorf(Internal, "the result is written as %s and as %s; it has one media type", c.writer.mediaType, mediaType)
		}
		return c.writer
	}
	c.writer = &Writer{call: c, mediaType: mediaType}
	switch {
	case mediaType == "":
		c.writer.failed = Errorf(Internal, "the result has no media type; name one, for example application/octet-stream")
	case mediaType != jsonType && !c.op.isBlob && c.op.output != nil:
		c.writer.failed = Errorf(Internal, "the operation %q writes %s; its output must be plugin.Blob", c.op.spec.Name, mediaType)
	}
	return c.writer
}

// Write takes the next bytes. It fails when the call is over.
func (w *Writer) Write(data []byte) (int, error) {
	w.call.sending.Lock()
	defer w.call.sending.Unlock()
	taken := 0
	for len(data) > 0 && w.failed == nil {
		if w.call.over {
			w.failed = io.ErrClosedPipe
			break
		}
		if w.buffer == nil {
			w.buffer = make([]byte, 0, chunkBytes)
		}
		n := min(len(data), chunkBytes-len(w.buffer))
		w.buffer = append(w.buffer, data[:n]...)
		data, taken = data[n:], taken+n
		if len(w.buffer) == chunkBytes {
			w.flush()
		}
	}
	return taken, w.failed
}

// flush sends what is in the buffer. The lock is held.
func (w *Writer) flush() {
	if w.failed != nil || len(w.buffer) == 0 {
		return
	}
	chunk := &pluginv1.InvokeResponse{Kind: &pluginv1.InvokeResponse_Chunk{Chunk: w.buffer}}
	if w.failed = w.call.stream.Send(chunk); w.failed != nil && w.call.ctx.Err() != nil {
		w.failed = w.call.ctx.Err()
	}
	w.buffer = w.buffer[:0] // The message is encoded when Send returns.
}
