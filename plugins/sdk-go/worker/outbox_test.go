package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	agentv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/agent/v1"
)

func line(text string) *agentv1.TaskReport {
	return &agentv1.TaskReport{Report: &agentv1.StepReport{Kind: &agentv1.StepReport_Log{Log: &agentv1.LogLine{Text: text}}}}
}

func TestReportsWaitForRoom(t *testing.T) {
	box := newOutbox()
	long := strings.Repeat("x", 8*1024)
	for box.bytes < reportBytes {
		if err := box.report(t.Context(), line(long)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := box.report(ctx, line(long)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	waited := make(chan error)
	go func() { waited <- box.report(t.Context(), line("last")) }()
	frames, last := 0, ""
	for last != "last" {
		frame := box.take()
		if frame == nil { // What waited is on its way into the queue.
			if err := <-waited; err != nil {
				t.Fatal(err)
			}
			continue
		}
		frames++
		if len(frame.Reports) > frameBytes/len(long)+1 {
			t.Errorf("a frame of %d reports", len(frame.Reports))
		}
		last = frame.Reports[len(frame.Reports)-1].Report.GetLog().Text
	}
	if frames < 4 || box.bytes != 0 || box.take() != nil {
		t.Errorf("%d frames, %d bytes left", frames, box.bytes)
	}
}

func TestOnlyTheLastProgressLeaves(t *testing.T) {
	box, of := newOutbox(), lease{"t", 1}
	for range 5 {
		box.tell(of, line("old"))
	}
	box.tell(of, line("new"))
	box.answer(of, &piece{completed: &agentv1.Completed{Lease: of.ref()}})
	frame := box.take()
	if len(frame.Reports) != 1 || frame.Reports[0].Report.GetLog().Text != "new" || len(frame.Completed) != 1 {
		t.Errorf("got %v", frame)
	}
	for range 100 {
		box.rewind(false)
		if frame := box.take(); len(frame.GetCompleted()) != 1 {
			t.Fatalf("an answer that was not acknowledged is sent again; got %v", frame)
		}
	}
	box.forget(of)
	if box.rewind(false); box.take() != nil || box.unacknowledged() != 0 {
		t.Error("what was acknowledged is not sent again")
	}
}

func TestManySmallThingsShareFrames(t *testing.T) {
	box := newOutbox()
	for n := range uint64(2*frameMessages + 1) {
		box.release(lease{"t", n})
	}
	var sizes []int
	for frame := box.take(); frame != nil; frame = box.take() {
		sizes = append(sizes, len(frame.Released))
	}
	if len(sizes) != 3 || sizes[0] != frameMessages || sizes[2] != 1 {
		t.Errorf("got %v", sizes)
	}
}

func TestPausesGrowAndDiffer(t *testing.T) {
	var waits pauses
	seen := map[time.Duration]bool{}
	for n := range 50 {
		pause := waits.take()
		most := min(firstPause<<min(n, 10), longestPause)
		if pause < most/2 || pause > most {
			t.Errorf("pause %d is %s, of %s at most", n, pause, most)
		}
		seen[pause] = true
	}
	if len(seen) < 40 {
		t.Errorf("only %d of 50 pauses differ", len(seen))
	}
}
