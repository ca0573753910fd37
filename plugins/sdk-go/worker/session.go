package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	sdk "github.com/consort-mesh/consort/plugins/sdk-go"
	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	agentv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/agent/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	protocol       = 1
	welcomeTimeout = 20 * time.Second
	closeTimeout   = 5 * time.Second
	shortestTTL    = 300 * time.Millisecond
)

// session is one life of a worker: as many streams as it takes. While the mesh is away the tasks in hand go on; their answers are sent
// when it is back.
type session struct {
	*Worker
	id     string
	tasks  *tasks
	outbox *outbox
	blobs  *blobs
	kill   context.CancelFunc

	mu       sync.Mutex
	stopping bool
	drained  bool               // The mesh wants the worker gone, or goes away itself.
	closing  bool               // Everything was said on the current stream, and its end is closed.
	attached bool               // The current stream was welcomed.
	absent   bool               // It was said that the mesh is away.
	hangUp   context.CancelFunc // Ends the current stream.
}

func newSession(w *Worker) *session {
	slots := 0
	for _, count := range w.slots {
		slots += count
	}
	ctx, kill := context.WithCancel(context.Background())
	s := &session{Worker: w, id: newUUID(), outbox: newOutbox(), blobs: newBlobs(w.address), kill: kill, hangUp: func() {}}
	s.tasks = &tasks{
		ctx: ctx, handlers: w.handlers, outbox: s.outbox, blobs: s.blobs, logger: w.logger, limit: 2 * slots, held: map[lease]*Task{},
	}
	return s
}

// run serves until the context ends, or the mesh drained this worker, and all is finished.
func (s *session) run(ctx context.Context) error {
	defer s.close()
	defer context.AfterFunc(ctx, s.stop)()
	var waits pauses
	for !s.over() {
		began := time.Now()
		err := s.attach()
		if errors.Is(err, ErrRefused) {
			return err
		}
		if s.mayLeave() && s.meshStays() {
			s.logger.Info("drained by the mesh")
			return nil
		}
		s.noteAbsence(err)
		if time.Since(began) > longestPause {
			waits.reset() // It held for a while, so this is a new trouble.
		}
		if s.over() {
			break
		}
		rest := ctx
		if s.isStopping() {
			rest = context.Background() // Answers still wait to be delivered, so the mesh is tried further.
		}
		select {
		case <-time.After(waits.take()):
		case <-rest.Done():
		}
	}
	return nil
}

// stop takes nothing new. The session ends when what is in hand is done and acknowledged, or after the drain timeout.
func (s *session) stop() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.logger.Info("draining", "tasks", s.tasks.count())
	s.outbox.drain()
	time.AfterFunc(s.drainTimeout, s.giveUp)
	s.hangUpIfIdle()
}

func (s *session) giveUp() {
	if !s.tasks.empty() {
		s.logger.Error("not drained in time; what is left is given back", "tasks", s.tasks.count(), "answers", s.outbox.unacknowledged())
	}
	s.tasks.giveBack()
	s.outbox.forgetAll()
	s.hangUpIfIdle()
}

// hangUpIfIdle ends an attempt to reach the mesh that nothing needs any more.
func (s *session) hangUpIfIdle() {
	empty := s.tasks.empty()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.attached && empty {
		s.hangUp()
	}
}

func (s *session) close() {
	s.kill()
	done := make(chan struct{})
	go func() {
		s.tasks.working.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeTimeout):
		s.logger.Warn("handlers do not end although they were told to; they are left behind")
	}
	s.blobs.close()
}

func (s *session) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (s *session) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping || s.drained
}

func (s *session) over() bool { return s.isStopping() && s.tasks.empty() }

// mayLeave tells whether the mesh drained this worker and everything was said.
func (s *session) mayLeave() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drained && s.closing && !s.stopping
}

// meshStays tells why the mesh drained this worker. A mesh that still answers wants it gone; one that does not is going away itself, and the
// worker must be there when it comes back.
func (s *session) meshStays() bool {
	conn, err := dial(s.address)
	if err != nil {
		return false
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_, err = agentv1.NewAgentServiceClient(conn).ListWorkers(ctx, &agentv1.ListWorkersRequest{Parent: s.parent()})
	return err == nil
}

func (s *session) noteAbsence(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !s.absent {
		s.absent = true
		s.logger.Warn("no mesh; trying again until it answers", "address", plainAddress(s.address), "error", err)
	}
}

func (s *session) parent() string { return "namespaces/" + s.namespace }

// attach opens a stream and serves it until it ends.
func (s *session) attach() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.mu.Lock()
	s.drained, s.closing, s.attached, s.hangUp = false, false, false, cancel
	s.mu.Unlock()
	conn, err := dial(s.address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	defer conn.Close()
	late := time.AfterFunc(welcomeTimeout, cancel)
	stream, first, err := s.greet(ctx, conn)
	late.Stop()
	if err != nil {
		return err
	}
	if err := s.welcome(first.Welcome); err != nil {
		return err
	}
	s.take(first)
	err = s.serve(ctx, cancel, stream, max(first.Welcome.LeaseTtl.AsDuration(), shortestTTL))
	if fault.ReasonOf(err) == "SESSION_REPLACED" {
		return fmt.Errorf("%w: another worker took the name %q; give each its own", ErrRefused, s.name)
	}
	return err
}

func (s *session) greet(ctx context.Context, conn *grpc.ClientConn) (stream agentv1.WorkerService_ConnectClient, first *agentv1.ConnectResponse, err error) {
	if stream, err = agentv1.NewWorkerServiceClient(conn).Connect(ctx); err == nil {
		// When the stream is over already, Send says EOF and reading tells why.
		_ = stream.Send(&agentv1.ConnectRequest{Hello: s.hello()})
		if first, err = stream.Recv(); errors.Is(err, io.EOF) {
			err = errors.New("the mesh closed the stream before its welcome")
		}
	}
	switch status.Code(err) {
	case codes.OK:
		if first.Welcome == nil {
			err = fmt.Errorf("%w: %s did not begin with a welcome; is it a Consort mesh?", ErrRefused, plainAddress(s.address))
		}
	case codes.InvalidArgument, codes.AlreadyExists, codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated,
		codes.Unimplemented, codes.OutOfRange:
		// What these say about a hello will be said again.
		err = fmt.Errorf("%w: %s, worker %q: %w", ErrRefused, plainAddress(s.address), s.name, err)
	}
	return stream, first, err
}

func (s *session) hello() *agentv1.Hello {
	hello := &agentv1.Hello{
		WorkerId: s.name, SessionId: s.id, Parent: s.parent(), MinProtocol: protocol, MaxProtocol: protocol, Agents: s.agents, Sdk: sdk.Name,
	}
	for slot, count := range s.slots {
		hello.Slots = append(hello.Slots, &agentv1.SlotOffer{Slot: slot, Credits: int32(count)})
	}
	return hello
}

func (s *session) welcome(welcome *agentv1.Welcome) error {
	if welcome.Protocol != protocol {
		return fmt.Errorf("%w: %s speaks protocol %d, this worker %d", ErrRefused, plainAddress(s.address), welcome.Protocol, protocol)
	}
	s.tasks.resume(welcome.Resumed)
	s.mu.Lock()
	s.attached, s.absent = true, false
	stopping := s.stopping
	s.mu.Unlock()
	s.outbox.rewind(stopping)
	s.logger.Info("attached", "worker", s.name, "address", plainAddress(s.address), "server", welcome.Server, "resumed", len(welcome.Resumed))
	if s.ready != nil {
		s.ready()
	}
	return nil
}

// serve writes and reads until the stream ends. It is nil when everything was said and both ends are closed.
func (s *session) serve(ctx context.Context, cancel context.CancelFunc, stream agentv1.WorkerService_ConnectClient, ttl time.Duration) error {
	var helpers sync.WaitGroup
	helpers.Go(func() { s.write(ctx, cancel, stream) })
	helpers.Go(func() { s.renew(ctx, ttl/3) })
	defer helpers.Wait()
	defer cancel()
	for {
		frame, err := stream.Recv()
		switch {
		case err == nil:
			s.take(frame)
			continue
		case s.isClosing() && (errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled):
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("the mesh closed the stream")
		}
		return err
	}
}

func (s *session) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// write writes what waits, a frame at a time, and closes its end when there is nothing left to do.
func (s *session) write(ctx context.Context, cancel context.CancelFunc, stream agentv1.WorkerService_ConnectClient) {
	for {
		runtime.Gosched() // Tasks that are about to end end now, and share the frame.
		done := s.isDraining() && s.tasks.empty()
		if frame := s.outbox.take(); frame != nil {
			if stream.Send(frame) != nil {
				return // The reader sees the same end and knows its reason.
			}
			continue
		}
		if done {
			s.mu.Lock()
			s.closing = true
			s.mu.Unlock()
			_ = stream.CloseSend()
			// The mesh closes its own end now; if it does not, it is hung up on.
			select {
			case <-time.After(closeTimeout):
				cancel()
			case <-ctx.Done():
			}
			return
		}
		select {
		case <-s.outbox.wake:
		case <-ctx.Done():
			return
		}
	}
}

// renew says that the worker lives.
func (s *session) renew(ctx context.Context, every time.Duration) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	last, used := time.Now(), cpuTime()
	for {
		now, total := time.Now(), cpuTime()
		share := float64(total-used) / float64(max(now.Sub(last), time.Millisecond))
		last, used = now, total
		s.outbox.renew(&agentv1.Renew{Cpu: share, MemoryBytes: residentBytes()})
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *session) take(frame *agentv1.ConnectResponse) {
	draining := s.isDraining()
	for _, assignment := range frame.Assignments {
		s.tasks.start(assignment, draining)
	}
	for _, cancel := range frame.Cancels {
		s.tasks.cancel(leaseOf(cancel.Lease), cancel.Reason)
	}
	for _, ack := range frame.Acks {
		if ack.GetError().GetCode() != 0 {
			s.logger.Warn("an answer was refused", "task", ack.Lease.GetTask(), "error", ack.Error.Message)
		}
		s.outbox.forget(leaseOf(ack.Lease))
	}
	if frame.Drain && !draining {
		s.logger.Info("the mesh asks to drain", "tasks", s.tasks.count())
		s.mu.Lock()
		s.drained = true
		s.mu.Unlock()
		s.outbox.drain()
	}
}

// newUUID is a random UUID (version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
