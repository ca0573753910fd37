package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	agentv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/agent/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type person struct {
	Name string `json:"name"`
	Age  int    `json:"age"`
}

func greet(_ context.Context, task *Task, in person) (string, error) {
	switch in.Name {
	case "":
		return "", errors.New("nobody is there")
	case "stranger":
		return "", Errorf(codes.NotFound, "unknown").Reason("STRANGER").RetryAfter(time.Second)
	case "ghost":
		panic("boo")
	}
	task.Progress(0.5, "half")
	task.Log(LevelWarn, "careful")
	if err := task.Note("tool", map[string]int{"calls": 1}); err != nil {
		return "", err
	}
	return "Hello " + in.Name, nil
}

func TestATaskIsDoneAndAnswered(t *testing.T) {
	mesh := newFakeMesh(t)
	ready := make(chan struct{}, 1)
	w := mesh.worker(4).Agent("greet", Typed(greet), Type("social"), Description("Greets."), Capabilities("words")).
		OnReady(func() { ready <- struct{}{} })
	end, stop := runs(t, w)
	stream := mesh.accept()
	<-ready
	hello := stream.hello
	if hello.WorkerId != "under-test" || hello.Parent != "namespaces/default" || len(hello.SessionId) != 36 || hello.Slots[0].Credits != 4 {
		t.Errorf("got %v", hello)
	}
	if offer := hello.Agents[0]; offer.Agent != "greet" || offer.Type != "social" || offer.Capabilities[0] != "words" || offer.Slot != "default" {
		t.Errorf("got %v", offer)
	}
	held := stream.assign("a", "greet", `{"name":"Ada"}`)
	var told []string
	for completed := (*agentv1.Completed)(nil); completed == nil; {
		frame := <-stream.frames
		for _, report := range frame.Reports {
			told = append(told, fmt.Sprintf("%T", report.Report.Kind))
		}
		if len(frame.Completed) > 0 {
			completed = frame.Completed[0]
			if completed.Output.GetJson() != `"Hello Ada"` || completed.Lease.LeaseToken != 7 {
				t.Errorf("got %v", completed)
			}
		}
	}
	if got := strings.Join(told, " "); !strings.Contains(got, "Progress") || !strings.Contains(got, "Log") || !strings.Contains(got, "Note") {
		t.Errorf("told %s", got)
	}
	stream.ack(held)
	stop()
	stream.closes()
	if err := ends(t, end); err != nil {
		t.Error(err)
	}
}

func TestHowTasksFail(t *testing.T) {
	mesh := newFakeMesh(t)
	runs(t, mesh.worker(4).Agent("greet", Typed(greet)).Agent("odd", func(context.Context, *Task) (any, error) { return func() {}, nil }))
	stream := mesh.accept()
	for _, check := range []struct {
		agent, input string
		code         codes.Code
		retryable    bool
		message      string
	}{
		{"greet", `{}`, codes.Unknown, true, "nobody is there"},
		{"greet", `{"name":"stranger"}`, codes.NotFound, false, "unknown"},
		{"greet", `{"name":"ghost"}`, codes.Internal, true, "panic: boo"},
		{"greet", `{"name":"x","age":"old"}`, codes.InvalidArgument, false, "age"},
		{"greet", `{"name`, codes.InvalidArgument, false, "does not fit"},
		{"nobody", `{}`, codes.Unimplemented, true, `does not serve agent "nobody"`},
		{"odd", `{}`, codes.Internal, false, "no JSON"},
	} {
		stream.ack(stream.assign(check.input+check.agent, check.agent, check.input))
		failed := stream.failed()
		if codes.Code(failed.Error.Code) != check.code || failed.Retryable != check.retryable || !strings.Contains(failed.Error.Message, check.message) {
			t.Errorf("%s %s: got %v", check.agent, check.input, failed)
		}
		if check.code == codes.NotFound && failed.RetryAfter.AsDuration() != time.Second {
			t.Errorf("got %v", failed.RetryAfter)
		}
	}
}

// waiting is an agent whose tasks wait for a word, or for their end.
func waiting() (handler Handler, begun chan string, goOn chan struct{}, cancelled chan string) {
	begun, goOn, cancelled = make(chan string, 100), make(chan struct{}), make(chan string, 100)
	return func(ctx context.Context, task *Task) (any, error) {
		begun <- task.Name()
		select {
		case <-goOn:
			return task.IdempotencyKey(), nil
		case <-ctx.Done():
			cancelled <- task.Name()
			return nil, ctx.Err()
		}
	}, begun, goOn, cancelled
}

func TestABrokenStreamLosesNoAnswer(t *testing.T) {
	mesh := newFakeMesh(t)
	handler, begun, goOn, cancelled := waiting()
	runs(t, mesh.worker(9).Agent("wait", handler).Agent("greet", Typed(greet)))
	first := mesh.accept()
	unacked := first.assign("unacked", "greet", `{"name":"Ada"}`)
	first.completed()
	kept, lost := first.assign("kept", "wait", `{}`), first.assign("lost", "wait", `{}`)
	<-begun
	<-begun
	first.ended <- status.Error(codes.Unavailable, "the mesh fell over")

	never := &agentv1.LeaseRef{Task: "never", LeaseToken: 3}
	second := mesh.accept(kept, unacked, never)
	if second.hello.SessionId != first.hello.SessionId {
		t.Error("a worker that comes back has the same session")
	}
	if name := <-cancelled; name != lost.Task {
		t.Errorf("%s was cancelled", name)
	}
	frames := func(frame *agentv1.ConnectRequest) []string {
		var said []string
		for _, each := range frame.Completed {
			said = append(said, "completed "+each.Lease.Task)
		}
		for _, each := range frame.Released {
			said = append(said, "released "+each.Lease.Task)
		}
		return said
	}
	var said []string
	for len(said) < 2 {
		said = append(said, frames(<-second.frames)...)
	}
	if got := strings.Join(said, ", "); got != "completed unacked, released never" {
		t.Errorf("got %s", got)
	}
	second.ack(unacked)
	second.assign("kept", "wait", `{}`) // Handed out again although it is in hand.
	close(goOn)
	if completed := second.completed(); completed.Lease.Task != "kept" || completed.Output.GetJson() != `"key of kept"` {
		t.Errorf("got %v", completed)
	}
	if len(begun) != 0 {
		t.Error("a task was begun twice")
	}
}

func TestWhatIsTooMuchOrUnwantedGoesBack(t *testing.T) {
	mesh := newFakeMesh(t)
	handler, begun, _, cancelled := waiting()
	end, stop := runs(t, mesh.worker(1).Agent("wait", handler).DrainTimeout(200*time.Millisecond))
	stream := mesh.accept()
	a := stream.assign("a", "wait", `{}`)
	stream.assign("b", "wait", `{}`)
	<-begun
	<-begun
	stream.assign("c", "wait", `{}`)
	if released := stream.released(); released.Lease.Task != "c" {
		t.Errorf("got %v", released)
	}
	stream.send(&agentv1.ConnectResponse{Cancels: []*agentv1.Cancel{{Lease: a, Reason: "the run was cancelled"}}})
	if name := <-cancelled; name != "a" {
		t.Errorf("%s was cancelled", name)
	}
	stop()
	hear(stream, func(frame *agentv1.ConnectRequest) []bool {
		return []bool{frame.Draining}[:map[bool]int{true: 1}[frame.Draining]]
	})
	stream.assign("d", "wait", `{}`)
	if released := stream.released(); released.Lease.Task != "d" {
		t.Errorf("got %v", released)
	}
	if released := stream.released(); released.Lease.Task != "b" {
		t.Errorf("what is not done when the drain ends goes back; got %v", released)
	}
	stream.closes()
	if err := ends(t, end); err != nil {
		t.Error(err)
	}
}

func TestADrainedWorkerFinishesAndLeaves(t *testing.T) {
	mesh := newFakeMesh(t)
	handler, begun, goOn, _ := waiting()
	end, _ := runs(t, mesh.worker(2).Agent("wait", handler))
	stream := mesh.accept()
	held := stream.assign("a", "wait", `{}`)
	<-begun
	stream.send(&agentv1.ConnectResponse{Drain: true})
	close(goOn)
	stream.completed()
	stream.ack(held)
	stream.closes()
	if err := ends(t, end); err != nil {
		t.Error(err)
	}
}

func TestARefusedWorkerSaysWhy(t *testing.T) {
	mesh := newFakeMesh(t)
	mesh.refuse = status.Error(codes.InvalidArgument, "agents[0]: no")
	end, _ := runs(t, mesh.worker(1).Agent("greet", Typed(greet)))
	if err := ends(t, end); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "agents[0]: no") {
		t.Errorf("got %v", err)
	}
	mesh.refuse = nil
	end, _ = runs(t, mesh.worker(1).Agent("greet", Typed(greet)))
	mesh.accept().ended <- fault.Errorf(codes.Aborted, "replaced").Reason("SESSION_REPLACED")
	if err := ends(t, end); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "under-test") {
		t.Errorf("got %v", err)
	}
}

func TestAWorkerWithoutAMeshCanBeStopped(t *testing.T) {
	end, stop := runs(t, (&fakeMesh{address: "127.0.0.1:1"}).worker(1).Agent("greet", Typed(greet)))
	time.AfterFunc(100*time.Millisecond, stop)
	if err := ends(t, end); err != nil {
		t.Error(err)
	}
}

func TestMistakesAreReportedTogether(t *testing.T) {
	err := New("Bad Name", 0).Address("nowhere").Namespace("").
		Agent("A", Typed(greet)).Agent("b", nil).Agent("c", Typed(greet), Slot("gpu")).Agent("c", Typed(greet)).
		DrainTimeout(-1).Run(t.Context())
	for _, want := range []string{
		`name: "Bad Name"`, "slots: 0", `CONSORT_ADDR: "nowhere"`, `namespace: ""`, `agent: "A"`, `agent "b": has no handler`,
		`agent "c": there are no slots of type "gpu"`, `agent "c": is there twice`, "drain timeout",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	for _, good := range []string{"", "localhost:1", "http://a:2/", "https://[::1]:65535", "unix:/tmp/s"} {
		if err := checkAddress(good); err != nil {
			t.Error(err)
		}
	}
}
