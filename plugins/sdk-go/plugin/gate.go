package plugin

import (
	"context"
	"errors"
	"sync"
)

var (
	errDraining = errors.New("the plugin drains")
	errFull     = errors.New("the plugin is full")
)

// gate counts the calls in work, lets no more in than there may be, and none when it is closed.
type gate struct {
	mu      sync.Mutex
	limit   int
	closed  bool
	inWork  map[int]context.CancelCauseFunc
	next    int
	emptied chan struct{}
}

func newGate(limit int) *gate {
	return &gate{limit: limit, inWork: map[int]context.CancelCauseFunc{}}
}

// enter lets a call in. The context it returns ends when the gate is told to cancel; leave must be called.
func (g *gate) enter(ctx context.Context) (_ context.Context, leave func(), _ error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return nil, nil, errDraining
	case len(g.inWork) >= g.limit:
		return nil, nil, errFull
	}
	ctx, cancel := context.WithCancelCause(ctx)
	number := g.next
	g.next++
	g.inWork[number] = cancel
	return ctx, func() {
		cancel(nil)
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.inWork, number)
		if len(g.inWork) == 0 && g.emptied != nil {
			close(g.emptied)
			g.emptied = nil
		}
	}, nil
}

// close lets nothing new in, and returns a channel that is closed when nothing is in work any more.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if len(g.inWork) == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if g.emptied == nil {
		g.emptied = make(chan struct{})
	}
	return g.emptied
}

// cancel tells all that is in work to stop, and returns how many calls that are.
func (g *gate) cancel() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, stop := range g.inWork {
		stop(errDraining)
	}
	return len(g.inWork)
}
