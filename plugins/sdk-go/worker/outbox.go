package worker

import (
	"context"
	"sync"

	agentv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/agent/v1"
	"google.golang.org/protobuf/proto"
)

const (
	frameBytes    = 1024 * 1024
	frameMessages = 1024
	reportBytes   = 4 * 1024 * 1024
)

// lease names what a task is held by.
type lease struct {
	task  string
	token uint64
}

func leaseOf(ref *agentv1.LeaseRef) lease { return lease{ref.GetTask(), ref.GetLeaseToken()} }

func (l lease) ref() *agentv1.LeaseRef { return &agentv1.LeaseRef{Task: l.task, LeaseToken: l.token} }

// piece is one thing to say: exactly one of its messages is set.
type piece struct {
	report    *agentv1.TaskReport
	completed *agentv1.Completed
	failed    *agentv1.Failed
	released  *agentv1.Release
	size      int
	queued    bool
}

func (p *piece) measure() *piece {
	switch {
	case p.report != nil:
		p.size = proto.Size(p.report)
	case p.completed != nil:
		p.size = proto.Size(p.completed)
	case p.failed != nil:
		p.size = proto.Size(p.failed)
	case p.released != nil:
		p.size = proto.Size(p.released)
	}
	return p
}

// outbox is what waits to be sent. What is added while a frame is being written goes out in the next one, in the order it was added.
//
// Answers are kept until they are acknowledged, and are few: the mesh hands out no more tasks than there are slots. Reports wait for room
// once 4 MiB are queued. Of a task's progress only the last is kept.
type outbox struct {
	mu       sync.Mutex
	queue    []*piece
	bytes    int
	progress map[lease]*agentv1.TaskReport
	unacked  map[lease]*piece
	order    []lease // Of the answers, oldest first.
	renewal  *agentv1.Renew
	draining bool
	wake     chan struct{}
	room     chan struct{}
}

func newOutbox() *outbox {
	return &outbox{
		progress: map[lease]*agentv1.TaskReport{}, unacked: map[lease]*piece{}, wake: make(chan struct{}, 1), room: make(chan struct{}),
	}
}

// poke wakes who waits for something to send.
func (o *outbox) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) push(p *piece) {
	p.queued = true
	o.queue = append(o.queue, p)
	o.bytes += p.size
	o.poke()
}

// answer queues a task's answer, behind its last progress, and keeps it until it is acknowledged.
func (o *outbox) answer(of lease, p *piece) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if last := o.progress[of]; last != nil {
		delete(o.progress, of)
		o.push((&piece{report: last}).measure())
	}
	o.unacked[of] = p.measure()
	o.order = append(o.order, of)
	o.push(p)
}

// forget drops what waits for a lease: it was acknowledged, or is gone.
func (o *outbox) forget(of lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.progress, of)
	delete(o.unacked, of)
	if len(o.order) > 2*len(o.unacked)+16 {
		kept := o.order[:0]
		for _, each := range o.order {
			if o.unacked[each] != nil {
				kept = append(kept, each)
			}
		}
		o.order = kept
	}
	o.poke()
}

func (o *outbox) forgetAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.unacked)
	o.order = nil
	o.poke()
}

func (o *outbox) isAnswered(of lease) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unacked[of] != nil
}

func (o *outbox) unacknowledged() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.unacked)
}

// release queues a lease that is given back. If it is ours again after a reconnect, it is given back again.
func (o *outbox) release(of lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.progress, of)
	o.push((&piece{released: &agentv1.Release{Lease: of.ref()}}).measure())
}

// tell queues progress in place of earlier progress of the same task that has not left yet.
func (o *outbox) tell(of lease, report *agentv1.TaskReport) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.progress[of] = report
	o.poke()
}

// report queues a report when there is room. It gives up when the context ends.
func (o *outbox) report(ctx context.Context, report *agentv1.TaskReport) error {
	p := (&piece{report: report}).measure()
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.bytes >= reportBytes {
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		o.mu.Lock()
		if ctx.Err() != nil {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o.push(p)
	return nil
}

// renew puts a sign of life into the next frame.
func (o *outbox) renew(renewal *agentv1.Renew) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.renewal = renewal
	o.poke()
}

// drain tells the mesh, in the next frame, that nothing new is taken.
func (o *outbox) drain() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.draining = true
	o.poke()
}

// rewind makes ready for a new stream: answers that had left and were not acknowledged are queued again, first.
func (o *outbox) rewind(draining bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var again []*piece
	for _, each := range o.order {
		if p := o.unacked[each]; p != nil && !p.queued {
			p.queued = true
			o.bytes += p.size
			again = append(again, p)
		}
	}
	o.queue = append(again, o.queue...)
	o.draining = draining
	o.poke()
}

// take is the next frame, of about 1 MiB at most; nil if nothing waits.
func (o *outbox) take() *agentv1.ConnectRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.renewal == nil && !o.draining && len(o.queue) == 0 && len(o.progress) == 0 {
		return nil
	}
	frame := &agentv1.ConnectRequest{Renew: o.renewal, Draining: o.draining}
	o.renewal, o.draining = nil, false
	size, count := 0, 0
	for count < len(o.queue) && size < frameBytes && count < frameMessages {
		p := o.queue[count]
		o.queue[count] = nil
		p.queued = false
		size += p.size
		count++
		switch {
		case p.report != nil:
			frame.Reports = append(frame.Reports, p.report)
		case p.completed != nil:
			frame.Completed = append(frame.Completed, p.completed)
		case p.failed != nil:
			frame.Failed = append(frame.Failed, p.failed)
		case p.released != nil:
			frame.Released = append(frame.Released, p.released)
		}
	}
	if o.queue = o.queue[count:]; len(o.queue) == 0 {
		o.queue = nil
	}
	o.bytes -= size
	for of, report := range o.progress {
		if count >= frameMessages {
			o.poke()
			break
		}
		count++
		frame.Reports = append(frame.Reports, report)
		delete(o.progress, of)
	}
	if o.bytes < reportBytes {
		close(o.room)
		o.room = make(chan struct{})
	}
	return frame
}
