// Package worker makes a process a worker of a Consort mesh: it dials in, takes tasks for the agents it serves, and answers them.
//
//	func main() {
//		err := worker.New("greeter", 4).
//			Agent("greet", worker.Typed(func(ctx context.Context, task *worker.Task, in Person) (Greeting, error) {
//				return Greeting{Text: "Hello " + in.Name}, nil
//			})).
//			Run(context.Background())
//		if err != nil {
//			log.Fatal(err)
//		}
//	}
package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	agentv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/agent/v1"
	"google.golang.org/grpc/codes"
)

const (
	maxAgents           = 100
	maxSlots            = 10_000
	defaultSlot         = "default"
	defaultDrainTimeout = 5 * time.Minute
)

var idPattern = regexp.MustCompile(`^[a-z0-9._-]{1,63}$`)

// Error is how a task fails with more than a message; see package fault.
type Error = fault.Error

// Errorf fails a task with a code and a message. Whether it is tried again follows from the code, unless Retryable says it; other errors
// are UNKNOWN and tried again, as the step's policy says.
func Errorf(code codes.Code, format string, arguments ...any) *Error {
	return fault.Errorf(code, format, arguments...)
}

// ErrRefused is in the error of Run if the mesh will never take this worker.
var ErrRefused = errors.New("the mesh refuses the worker")

// Handler does the tasks of an agent. It returns any value that JSON can say, or a [Plan]. Its context ends when the answer no longer matters.
// A panic fails the task with INTERNAL.
type Handler func(ctx context.Context, task *Task) (any, error)

// Plan is an answer that is a workflow, as YAML or JSON text without required inputs: the mesh runs it as a child, whose output becomes the
// step's. The step must say `plan: true`.
type Plan string

// Typed is a handler whose input is decoded: what does not fit Input fails the task with INVALID_ARGUMENT, which names the field, and is not
// tried again.
func Typed[Input, Output any](handler func(ctx context.Context, task *Task, input Input) (Output, error)) Handler {
	return func(ctx context.Context, task *Task) (any, error) {
		var input Input
		if err := task.Decode(&input); err != nil {
			return nil, err
		}
		return handler(ctx, task, input)
	}
}

// Worker serves agents. Make it with [New]; mistakes in what it is told are reported together by Run.
type Worker struct {
	name, address, namespace string
	slots                    map[string]int
	drainTimeout             time.Duration
	logger                   *slog.Logger
	ready                    func()
	agents                   []*agentv1.AgentOffer
	handlers                 map[string]Handler
	problems                 []string
}

// New makes a worker. `name` is stable and unique in its namespace; the environment's CONSORT_WORKER_ID goes before it, so that one program
// can run more than once. It takes as many tasks at once as there are slots, 1 to 10,000. The mesh is at CONSORT_ADDR, or
// 127.0.0.1:7420; the namespace is CONSORT_NAMESPACE, or `default`.
func New(name string, slots int) *Worker {
	return &Worker{
		name:         cmp.Or(os.Getenv("CONSORT_WORKER_ID"), name),
		address:      os.Getenv("CONSORT_ADDR"),
		namespace:    cmp.Or(os.Getenv("CONSORT_NAMESPACE"), "default"),
		slots:        map[string]int{defaultSlot: slots},
		drainTimeout: defaultDrainTimeout,
		logger:       slog.Default(),
		handlers:     map[string]Handler{},
	}
}

// Address sets where the mesh is: `host:port`, with `https://` before it for TLS.
func (w *Worker) Address(address string) *Worker { w.address = address; return w }

// Namespace sets the namespace.
func (w *Worker) Namespace(namespace string) *Worker { w.namespace = namespace; return w }

// Slots sets how many tasks of a slot type are taken at once, beside those of the type `default`.
func (w *Worker) Slots(slot string, count int) *Worker { w.slots[slot] = count; return w }

// DrainTimeout sets how long a stop waits for what is in hand, 5 minutes unless set. What is left is given back.
func (w *Worker) DrainTimeout(timeout time.Duration) *Worker { w.drainTimeout = timeout; return w }

// Logger sets where it logs to, slog's default unless set.
func (w *Worker) Logger(logger *slog.Logger) *Worker { w.logger = logger; return w }

// OnReady sets what is called each time the mesh welcomed the worker.
func (w *Worker) OnReady(ready func()) *Worker { w.ready = ready; return w }

// AgentOption says more about an agent.
type AgentOption func(*agentv1.AgentOffer)

// Type says what kind of agent it is.
func Type(kind string) AgentOption { return func(a *agentv1.AgentOffer) { a.Type = kind } }

// Description says in a sentence what the agent is for.
func Description(text string) AgentOption {
	return func(a *agentv1.AgentOffer) { a.Description = text }
}

// Capabilities says what the agent can do.
func Capabilities(names ...string) AgentOption {
	return func(a *agentv1.AgentOffer) { a.Capabilities = names }
}

// Slot says which type of slot its tasks take.
func Slot(slot string) AgentOption { return func(a *agentv1.AgentOffer) { a.Slot = slot } }

// Agent serves an agent. `id` has 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`.
func (w *Worker) Agent(id string, handler Handler, options ...AgentOption) *Worker {
	offer := &agentv1.AgentOffer{Agent: id, Slot: defaultSlot}
	for _, option := range options {
		option(offer)
	}
	if !idPattern.MatchString(id) {
		w.wrong("agent: %q is malformed; use 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`", id)
	}
	if handler == nil {
		w.wrong("agent %q: has no handler", id)
	}
	if w.handlers[id] != nil {
		w.wrong("agent %q: is there twice; give each its own id", id)
	}
	w.agents = append(w.agents, offer)
	w.handlers[id] = handler
	return w
}

// Run serves until the context ends, SIGTERM or SIGINT comes, or the mesh drains the worker. Then it finishes what is in hand, waits until
// the answers are on record, and returns nil; a second signal ends the process. While the mesh is away it goes on and tries to reach it.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // The second signal does what signals do.
	return newSession(w).run(ctx)
}

func (w *Worker) check() error {
	problems := w.problems
	wrong := func(format string, arguments ...any) { problems = append(problems, fmt.Sprintf(format, arguments...)) }
	if !idPattern.MatchString(w.name) {
		wrong("name: %q is malformed; use 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`", w.name)
	}
	if !idPattern.MatchString(w.namespace) {
		wrong("namespace: %q is malformed; use 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`", w.namespace)
	}
	if len(w.agents) < 1 || len(w.agents) > maxAgents {
		wrong("agents: %d; a worker serves 1 to %d", len(w.agents), maxAgents)
	}
	for slot, count := range w.slots {
		if count < 1 || count > maxSlots {
			wrong("slots: %d of type %q; give 1 to %d", count, slot, maxSlots)
		}
	}
	for _, agent := range w.agents {
		if w.slots[agent.Slot] == 0 {
			wrong("agent %q: there are no slots of type %q; offer some with Slots", agent.Agent, agent.Slot)
		}
	}
	if err := checkAddress(w.address); err != nil {
		wrong("%v", err)
	}
	if w.drainTimeout < 0 {
		wrong("drain timeout: %s is negative", w.drainTimeout)
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "\n"))
}

func (w *Worker) wrong(format string, arguments ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, arguments...))
}

// misfit is the error of input that is no value of the handler's type.
func misfit(err error) error {
	failure := Errorf(codes.InvalidArgument, "the input does not fit: %w", err)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		failure.Field(cmp.Or(wrong.Field, "input"), fmt.Sprintf("%s is no %s", wrong.Value, wrong.Type))
	}
	return failure
}
