package worker

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	agentv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/agent/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/values"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

const patience = 10 * time.Second

// fakeMesh is a mesh whose streams a test plays by hand.
type fakeMesh struct {
	agentv1.UnimplementedWorkerServiceServer
	agentv1.UnimplementedAgentServiceServer
	t       *testing.T
	address string
	streams chan *fakeStream
	refuse  error
}

// fakeStream is the mesh's end of a worker's stream.
type fakeStream struct {
	t      *testing.T
	stream agentv1.WorkerService_ConnectServer
	hello  *agentv1.Hello
	frames chan *agentv1.ConnectRequest
	ended  chan error
}

func newFakeMesh(t *testing.T) *fakeMesh {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mesh := &fakeMesh{t: t, address: listener.Addr().String(), streams: make(chan *fakeStream)}
	server := grpc.NewServer()
	agentv1.RegisterWorkerServiceServer(server, mesh)
	agentv1.RegisterAgentServiceServer(server, mesh)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return mesh
}

func (m *fakeMesh) ListWorkers(context.Context, *agentv1.ListWorkersRequest) (*agentv1.ListWorkersResponse, error) {
	return &agentv1.ListWorkersResponse{}, nil
}

func (m *fakeMesh) Connect(stream agentv1.WorkerService_ConnectServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if m.refuse != nil {
		return m.refuse
	}
	s := &fakeStream{t: m.t, stream: stream, hello: first.Hello, frames: make(chan *agentv1.ConnectRequest, 1000), ended: make(chan error)}
	select {
	case m.streams <- s:
	case <-stream.Context().Done():
		return nil
	}
	go func() {
		defer close(s.frames)
		for {
			frame, err := stream.Recv()
			if err != nil {
				return
			}
			s.frames <- frame
		}
	}()
	select {
	case err := <-s.ended:
		return err
	case <-stream.Context().Done():
		return nil
	}
}

// accept waits for a worker's stream and welcomes it.
func (m *fakeMesh) accept(resumed ...*agentv1.LeaseRef) *fakeStream {
	m.t.Helper()
	select {
	case s := <-m.streams:
		s.send(&agentv1.ConnectResponse{Welcome: &agentv1.Welcome{Protocol: 1, LeaseTtl: durationpb.New(time.Second), Resumed: resumed, Server: "fake"}})
		return s
	case <-time.After(patience):
		m.t.Fatal("no worker came")
		return nil
	}
}

func (s *fakeStream) send(frame *agentv1.ConnectResponse) {
	s.t.Helper()
	if err := s.stream.Send(frame); err != nil {
		s.t.Fatal(err)
	}
}

// assign hands out a task.
func (s *fakeStream) assign(task, agent, input string) *agentv1.LeaseRef {
	s.t.Helper()
	s.send(&agentv1.ConnectResponse{Assignments: []*agentv1.Assignment{
		{Task: task, LeaseToken: 7, Agent: agent, Input: values.Payload([]byte(input)), Attempt: 1, IdempotencyKey: "key of " + task},
	}})
	return &agentv1.LeaseRef{Task: task, LeaseToken: 7}
}

func (s *fakeStream) ack(of *agentv1.LeaseRef) {
	s.t.Helper()
	s.send(&agentv1.ConnectResponse{Acks: []*agentv1.Ack{{Lease: of}}})
}

// hear waits for a frame that has what is wanted; nil if the worker closes its end before.
func hear[T any](s *fakeStream, wanted func(*agentv1.ConnectRequest) []T) *T {
	s.t.Helper()
	late := time.After(patience)
	for {
		select {
		case frame, open := <-s.frames:
			if !open {
				return nil
			}
			if found := wanted(frame); len(found) > 0 {
				return &found[0]
			}
		case <-late:
			s.t.Fatal("the worker did not say it")
		}
	}
}

func (s *fakeStream) completed() *agentv1.Completed {
	s.t.Helper()
	return *hear(s, (*agentv1.ConnectRequest).GetCompleted)
}

func (s *fakeStream) failed() *agentv1.Failed {
	s.t.Helper()
	return *hear(s, (*agentv1.ConnectRequest).GetFailed)
}

func (s *fakeStream) released() *agentv1.Release {
	s.t.Helper()
	return *hear(s, (*agentv1.ConnectRequest).GetReleased)
}

// closes waits for the worker to close its end, and closes the other.
func (s *fakeStream) closes() {
	s.t.Helper()
	if found := hear(s, func(frame *agentv1.ConnectRequest) []string {
		if len(frame.Completed)+len(frame.Failed)+len(frame.Released) > 0 {
			return []string{frame.String()}
		}
		return nil
	}); found != nil {
		s.t.Errorf("the worker said more: %s", *found)
	}
	s.ended <- nil
}

// worker makes a worker for the mesh, which logs nothing.
func (m *fakeMesh) worker(slots int) *Worker {
	return New("under-test", slots).Address(m.address).Logger(slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// runs starts a worker; what it returns is the end.
func runs(t *testing.T, w *Worker) (end chan error, stop context.CancelFunc) {
	ctx, stop := context.WithCancel(context.Background())
	end = make(chan error, 1)
	go func() { end <- w.Run(ctx) }()
	t.Cleanup(stop)
	return end, stop
}

// ends waits for the end of Run.
func ends(t *testing.T, end chan error) error {
	t.Helper()
	select {
	case err := <-end:
		return err
	case <-time.After(patience):
		t.Fatal("the worker did not end")
		return nil
	}
}
