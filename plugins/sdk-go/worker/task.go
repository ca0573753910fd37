package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	agentv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/agent/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/values"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	logLimit      = 8 * 1024
	progressLimit = 1024
)

// Level is how much a line of log matters.
type Level = agentv1.LogLevel

// The levels of a log.
const (
	LevelDebug = agentv1.LogLevel_LOG_LEVEL_DEBUG
	LevelInfo  = agentv1.LogLevel_LOG_LEVEL_INFO
	LevelWarn  = agentv1.LogLevel_LOG_LEVEL_WARN
	LevelError = agentv1.LogLevel_LOG_LEVEL_ERROR
)

// Task is one attempt of one step. Its methods may be used from any goroutine; what is reported after the task has ended is dropped.
type Task struct {
	lease          lease
	assignment     *agentv1.Assignment
	input          []byte
	clarifications []Clarification
	ctx            context.Context
	cancel         context.CancelFunc
	outbox         *outbox
	blobs          *blobs
}

// Clarification is what a person answered to a question about the step.
type Clarification struct {
	// Title is the question.
	Title string
	// Option is the one that was chosen.
	Option string
	// Form is what was filled in; nil if the question had none.
	Form json.RawMessage
	// AnsweredBy is a name, or `deadline`.
	AnsweredBy string
}

// Name is `namespaces/{namespace}/runs/{uuid}/steps/{step}/attempts/{n}`.
func (t *Task) Name() string { return t.lease.task }

// Agent is the agent that does it.
func (t *Task) Agent() string { return t.assignment.Agent }

// Workflow is the id of the workflow, for logs.
func (t *Task) Workflow() string { return t.assignment.Workflow }

// Attempt is which attempt this is, from 1. A lost lease does not count.
func (t *Task) Attempt() int { return int(t.assignment.Attempt) }

// IdempotencyKey is equal for all attempts of the step: hand it to receivers that can tell repeats.
func (t *Task) IdempotencyKey() string { return t.assignment.IdempotencyKey }

// Deadline is when the mesh takes the attempt as failed, by its clock, and whether there is one. The handler's context ends then.
func (t *Task) Deadline() (time.Time, bool) {
	return t.assignment.GetDeadline().AsTime(), t.assignment.Deadline != nil
}

// Clarifications is what people have answered to questions about this step, in the order of the questions.
func (t *Task) Clarifications() []Clarification { return t.clarifications }

// Input is the step's `with`, as JSON text.
func (t *Task) Input() json.RawMessage { return t.input }

// Decode reads the input into a pointer. Its error, if it leaves the handler, fails the task with INVALID_ARGUMENT.
func (t *Task) Decode(into any) error {
	if err := json.Unmarshal(t.input, into); err != nil {
		return misfit(err)
	}
	return nil
}

// Progress says how far the task is, from 0 to 1, and what it does, in a few words. Of what has not left yet only the last is sent.
func (t *Task) Progress(fraction float64, text string) {
	if t.ctx.Err() != nil {
		return
	}
	progress := &agentv1.Progress{Fraction: min(max(fraction, 0), 1), Text: fault.Cut(text, progressLimit)}
	t.outbox.tell(t.lease, t.report(&agentv1.StepReport{Kind: &agentv1.StepReport_Progress{Progress: progress}}))
}

// Log writes a line into the run's history; what is longer than 8 KiB is cut. It waits while 4 MiB of reports wait to be sent, and does nothing
// once the task is cancelled.
func (t *Task) Log(level Level, text string) {
	line := &agentv1.LogLine{Level: level, Text: fault.Cut(text, logLimit)}
	_ = t.outbox.report(t.ctx, t.report(&agentv1.StepReport{Kind: &agentv1.StepReport_Log{Log: line}}))
}

// Note writes a named fact, such as a tool call and its result, into the run's history. It waits as Log does.
func (t *Task) Note(name string, value any) error {
	text, err := values.Encode(value)
	if err != nil {
		return fmt.Errorf("note %q is no JSON: %w", name, err)
	}
	payload, err := t.blobs.payload(t.ctx, text)
	if err != nil {
		return err
	}
	note := &agentv1.Note{Name: name, Value: payload}
	return t.outbox.report(t.ctx, t.report(&agentv1.StepReport{Kind: &agentv1.StepReport_Note{Note: note}}))
}

func (t *Task) report(report *agentv1.StepReport) *agentv1.TaskReport {
	return &agentv1.TaskReport{Lease: t.lease.ref(), Report: report, Time: timestamppb.Now()}
}
