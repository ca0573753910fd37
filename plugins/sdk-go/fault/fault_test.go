package fault

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func TestDetailsTravel(t *testing.T) {
	cause := Errorf(codes.NotFound, "no file %q: %w", "a", io.EOF).
		Reason("NO_FILE").With("folder", "/tmp").Field("path", "does not exist").RetryAfter(2 * time.Second)
	if !errors.Is(cause, io.EOF) || cause.Error() != `NOT_FOUND: no file "a": EOF` {
		t.Errorf("got %v", cause)
	}
	found, ok := status.FromError(cause)
	if !ok || found.Code() != codes.NotFound || found.Message() != `no file "a": EOF` || len(found.Details()) != 3 {
		t.Fatalf("got %v", found)
	}
	again := Read(found.Err(), codes.Unknown)
	if again.reason != "NO_FILE" || again.metadata["folder"] != "/tmp" || again.violations[0].Field != "path" {
		t.Errorf("got %+v", again)
	}
	if wait, ok := again.Delay(); !ok || wait != 2*time.Second {
		t.Errorf("got %v", wait)
	}
	if ReasonOf(found.Err()) != "NO_FILE" || ReasonOf(io.EOF) != "" || ReasonOf(nil) != "" {
		t.Error("the reason is lost")
	}
}

func TestReadKeepsWhatAnErrorIs(t *testing.T) {
	if Read(nil, codes.Unknown) != nil {
		t.Error("nil is no failure")
	}
	plain := Read(io.EOF, codes.Unknown)
	if plain.Code() != codes.Unknown || !errors.Is(plain, io.EOF) || !plain.CanRetry() {
		t.Errorf("got %v", plain)
	}
	wrapped := Read(fmt.Errorf("reading: %w", Errorf(codes.PermissionDenied, "no").Reason("MINE")), codes.Unknown)
	if wrapped.Code() != codes.PermissionDenied || wrapped.reason != "MINE" || !strings.HasPrefix(wrapped.text.Error(), "reading: ") {
		t.Errorf("got %v, reason %q", wrapped, wrapped.reason)
	}
	if wrapped.CanRetry() || !wrapped.Retryable(true).CanRetry() {
		t.Error("whether a retry helps follows from the code unless it is said")
	}
	if Errorf(codes.OK, "fine").Code() != codes.Internal || Errorf(99, "odd").Code() != codes.Internal {
		t.Error("no failure may have the code OK")
	}
}

func TestAStatusFitsIntoHeaders(t *testing.T) {
	long := strings.Repeat("ä", 50_000)
	failure := Panicked(long, []byte("goroutine 1 [running]:\npanic({0x1})\n\tgo/panic.go:1\nmain.f()\n"+long)).Reason("R").RetryAfter(time.Second)
	for range 100 {
		failure.Field(long, long)
	}
	found := failure.GRPCStatus()
	if size := proto.Size(found.Proto()); size > statusLimit {
		t.Errorf("%d bytes", size)
	}
	if info, ok := found.Details()[0].(*errdetails.ErrorInfo); !ok || info.Reason != "R" {
		t.Errorf("the reason must stay; got %v", found.Details()[0])
	}
	if len(failure.ToProto().Message) > 8*1024 {
		t.Error("the message in a frame is too long")
	}
}

func TestStackBeginsWherePanicBegan(t *testing.T) {
	failure := Panicked("boom", []byte("goroutine 1 [running]:\nruntime/debug.Stack()\n\tx\npanic({0x1})\n\tgo/panic.go:1\nmain.f()\n\tmain.go:3"))
	debug := failure.GRPCStatus().Details()[0].(*errdetails.DebugInfo)
	if debug.StackEntries[0] != "main.f()" || debug.Detail != "panic: boom" {
		t.Errorf("got %v", debug)
	}
}

func TestNamesOfCodes(t *testing.T) {
	for code := range codes.Unauthenticated + 1 {
		if back, ok := Code(Name(code)); !ok || back != code {
			t.Errorf("%v is named %s", code, Name(code))
		}
	}
	if _, ok := Code("NOPE"); ok || Name(42) != "CODE_42" {
		t.Error("there is no such code")
	}
}

func TestCut(t *testing.T) {
	for _, text := range []string{"", "abc", strings.Repeat("ä", 9), "a\xffb"} {
		cut := Cut(text, 10)
		if len(cut) > 10 || strings.ToValidUTF8(cut, "!") != cut {
			t.Errorf("%q became %q", text, cut)
		}
	}
}
