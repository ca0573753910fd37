package worker

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	agentv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/agent/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/values"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// Answers that may wait for their acknowledgement, beside two for each slot.
	moreAnswers = 1024
	// How long a task is kept before it is given back because handlers that were cancelled do not end.
	stuckPause = time.Second
)

// tasks starts tasks, stops them, and puts their answers into the outbox. At most two tasks for each slot are in hand: the mesh may hand out
// the next before the answer of the last has reached it. What goes beyond is given back.
type tasks struct {
	ctx      context.Context
	handlers map[string]Handler
	outbox   *outbox
	blobs    *blobs
	logger   *slog.Logger
	limit    int
	working  sync.WaitGroup

	// mu is taken before the outbox's: an answer goes into the outbox in the moment in which its task is out of hand.
	mu      sync.Mutex
	held    map[lease]*Task
	running int
}

// start begins a task, unless it is in hand or answered already; it gives it back if there is no place for it.
func (t *tasks) start(assignment *agentv1.Assignment, draining bool) {
	of := lease{assignment.Task, assignment.LeaseToken}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[of] != nil || t.outbox.isAnswered(of) {
		return // Handed out again after a reconnect.
	}
	if draining || len(t.held) >= t.limit || t.outbox.unacknowledged() >= t.limit+moreAnswers {
		t.outbox.release(of)
		return
	}
	if t.running >= t.limit {
		t.logger.Warn("handlers do not end although they were told to; a task is given back", "task", of.task)
		time.AfterFunc(stuckPause, func() { t.outbox.release(of) })
		return
	}
	ctx, cancel := context.WithCancel(t.ctx)
	task := &Task{lease: of, assignment: assignment, ctx: ctx, cancel: cancel, outbox: t.outbox, blobs: t.blobs}
	t.held[of] = task
	t.running++
	t.working.Go(func() { t.perform(task) })
}

// cancel stops a task whose answer no longer matters, and forgets its answer if there is one.
func (t *tasks) cancel(of lease, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if task := t.held[of]; task != nil {
		t.logger.Info("a task is stopped", "task", of.task, "reason", reason)
		t.stop(task)
	}
	t.outbox.forget(of)
}

// resume makes what is in hand equal to the leases that the mesh still honours.
func (t *tasks) resume(resumed []*agentv1.LeaseRef) {
	t.mu.Lock()
	defer t.mu.Unlock()
	honoured := map[lease]bool{}
	for _, ref := range resumed {
		of := leaseOf(ref)
		honoured[of] = true
		if t.held[of] == nil && !t.outbox.isAnswered(of) {
			t.outbox.release(of) // Handed out in a frame that never arrived.
		}
	}
	for of, task := range t.held {
		if !honoured[of] {
			t.logger.Warn("a lease was lost", "task", of.task)
			t.stop(task)
		}
	}
}

// giveBack stops every task and releases its lease.
func (t *tasks) giveBack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for of, task := range t.held {
		t.outbox.release(of)
		t.stop(task)
	}
}

// count is how many tasks are in hand.
func (t *tasks) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held)
}

// empty tells whether nothing is in hand, and every answer is acknowledged.
func (t *tasks) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held) == 0 && t.outbox.unacknowledged() == 0
}

// stop ends a task's context and takes it out of hand. The lock is held.
func (t *tasks) stop(task *Task) {
	task.cancel()
	delete(t.held, task.lease)
	t.outbox.poke()
}

// perform does a task and queues its answer.
func (t *tasks) perform(task *Task) {
	answer := t.answer(task)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if t.held[task.lease] == task {
		delete(t.held, task.lease)
		t.outbox.answer(task.lease, answer)
	}
	task.cancel()
}

func (t *tasks) answer(task *Task) *piece {
	completed, err := t.work(task)
	if err == nil {
		completed.Lease = task.lease.ref()
		return &piece{completed: completed}
	}
	failure := fault.Read(err, codes.Unknown)
	failed := &agentv1.Failed{Lease: task.lease.ref(), Error: failure.ToProto(), Retryable: failure.CanRetry()}
	if wait, ok := failure.Delay(); ok {
		failed.RetryAfter = durationpb.New(wait)
	}
	return &piece{failed: failed}
}

// work reads the input, calls the handler and writes the output. A panic of the handler is an error, with its stack in the history.
func (t *tasks) work(task *Task) (completed *agentv1.Completed, err error) {
	defer func() {
		if value := recover(); value != nil {
			stack := debug.Stack()
			task.Log(LevelError, string(stack))
			completed, err = nil, fault.Panicked(value, stack)
		}
	}()
	handler := t.handlers[task.Agent()]
	if handler == nil {
		return nil, Errorf(codes.Unimplemented, "this worker does not serve agent %q", task.Agent()).Retryable(true)
	}
	if err := t.read(task); err != nil {
		if _, ok := status.FromError(err); ok {
			return nil, err
		}
		return nil, Errorf(codes.InvalidArgument, "the input cannot be read: %w", err)
	}
	output, err := handler(task.ctx, task)
	if err != nil {
		return nil, err
	}
	if plan, ok := output.(Plan); ok {
		return &agentv1.Completed{Plan: string(plan)}, nil
	}
	text, err := values.Encode(output)
	if err != nil {
		return nil, Errorf(codes.Internal, "the answer of %q is no JSON: %w", task.Agent(), err).Retryable(false)
	}
	payload, err := t.blobs.payload(task.ctx, text)
	return &agentv1.Completed{Output: payload}, err
}

// read fetches the input and what people answered.
func (t *tasks) read(task *Task) (err error) {
	if task.input, err = t.blobs.text(task.ctx, task.assignment.Input); err != nil {
		return err
	}
	for _, given := range task.assignment.Clarifications {
		known := Clarification{Title: given.Title, Option: given.Option, AnsweredBy: given.AnsweredBy}
		if given.Form != nil {
			if known.Form, err = t.blobs.text(task.ctx, given.Form); err != nil {
				return err
			}
		}
		task.clarifications = append(task.clarifications, known)
	}
	return nil
}
