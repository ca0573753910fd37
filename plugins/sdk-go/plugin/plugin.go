// Package plugin makes a process a plugin of a Consort mesh: typed operations over gRPC.
//
//	func main() {
//		p := plugin.New("words", "1.0.0", "Counts words.")
//		plugin.Operation(p, plugin.Spec{Name: "count", Description: "Counts the words of a text.", Effect: plugin.Read}, count)
//		p.Main()
//	}
//
// The mesh starts the program. It prints one line that says where it listens, serves consort.plugin.v1.PluginService and
// grpc.health.v1 there, and ends when its standard input does. What it prints to standard output and standard error is logged.
package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"time"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/schema"
	"google.golang.org/grpc/codes"
)

const (
	protocol       = 1
	maxOperations  = 1000
	defaultTimeout = 60 * time.Second
	defaultInWork  = 256
)

var (
	pluginName    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	operationName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	semver        = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

// Effect says what a repeated call does, and so what the mesh may do when it does not know whether a call happened.
type Effect = pluginv1.Effect

const (
	// Read changes nothing: it is tried again.
	Read = pluginv1.Effect_EFFECT_READ
	// IdempotentWrite twice is IdempotentWrite once, at least with equal idempotency keys: it is tried again.
	IdempotentWrite = pluginv1.Effect_EFFECT_IDEMPOTENT_WRITE
	// Write twice does it twice: if its outcome is unknown, a person decides.
	Write = pluginv1.Effect_EFFECT_WRITE
)

// Plugin is a set of operations. Make it with [New]; mistakes in what it is told are reported together when it is served.
type Plugin struct {
	// MaxInWork is how many calls it takes at once, 256 unless set (the mesh sends no more than the manifest's `in_flight`); more are refused with RESOURCE_EXHAUSTED. Set it before it serves.
	MaxInWork int

	name, version, description string
	operations                 []*operation
	byName                     map[string]*operation
	config                     *config
	problems                   []string
}

// Spec describes an operation.
type Spec struct {
	// Name is unique in the plugin: 1 to 63 characters of a-z, 0-9, `_` and `-`, from a letter on.
	Name string
	// Description says what it does, for people and models that choose between operations.
	Description string
	// Effect says what a repeated call does; left out, it is Write.
	Effect Effect
	// Timeout is how long a call may take if the caller says nothing; left out, it is 60 s.
	Timeout time.Duration
	// DryRun says that the handler looks at [Call.DryRun], and then tells what it would do and does nothing.
	DryRun bool
}

// Blob is the output of an operation that writes its result with [Call.Writer]: the mesh keeps the bytes and fills it in.
type Blob struct {
	SHA256    string `json:"sha256" jsonschema:"SHA-256 of the bytes, hexadecimal."`
	SizeBytes int64  `json:"size_bytes" jsonschema:"How many they are."`
	MediaType string `json:"media_type" jsonschema:"What they are."`
}

type operation struct {
	spec          Spec
	input, output *schema.Schema
	isBlob        bool
	invoke        func(ctx context.Context, call *Call, input []byte) (any, error)
}

type config struct {
	schema *schema.Schema
	take   func(ctx context.Context, text []byte) (any, error)
}

// New makes a plugin. `name` has 1 to 63 characters of a-z, 0-9 and `-`, from a letter on, and is the `id` of the manifest; `version` is a
// semantic version; `description` says in a sentence what it is for.
func New(name, version, description string) *Plugin {
	p := &Plugin{
		MaxInWork: defaultInWork, name: name, version: version, description: description, byName: map[string]*operation{},
	}
	if !pluginName.MatchString(name) {
		p.wrong("name: %q is malformed; use 1 to 63 characters of a-z, 0-9 and `-`, from a letter on", name)
	}
	if !semver.MatchString(version) {
		p.wrong("version: %q is no semantic version; write for example 1.0.0", version)
	}
	if description == "" {
		p.wrong("description: is empty; say in a sentence what the plugin is for")
	}
	return p
}

// Operation adds an operation. Input is a struct (or a map of strings): its JSON Schema comes from its fields and tags, and the handler
// sees nothing that does not match. Output is what the call yields, in any type that JSON can say; `any` has no schema.
//
// Beside the tag `json`, these are read: `jsonschema` is the field's description; `default`, `minimum`, `maximum`, `minLength`,
// `maxLength`, `pattern`, `format`, `enum` (values with commas between), `minItems` and `maxItems` are the keywords of JSON Schema. Fields with
// `omitempty`, `omitzero` or `default` are optional.
//
// The context of the handler ends with the call's deadline, and when the caller has gone: stop then. What the handler returns as error
// becomes the call's status: see [Errorf].
func Operation[Input, Output any](
	p *Plugin, spec Spec, handler func(ctx context.Context, call *Call, input Input) (Output, error),
) {
	op := &operation{spec: spec, isBlob: reflect.TypeFor[Output]() == reflect.TypeFor[Blob]()}
	p.checkSpec(spec, handler == nil)
	var err error
	if op.input, err = schema.For(reflect.TypeFor[Input]()); err != nil {
		p.wrong("operation %q: input: %v", spec.Name, err)
	} else if !op.input.IsObject() {
		p.wrong("operation %q: input: %s is no JSON object; take a struct", spec.Name, reflect.TypeFor[Input]())
	}
	if op.output, err = schema.For(reflect.TypeFor[Output]()); err != nil {
		p.wrong("operation %q: output: %v", spec.Name, err)
	}
	op.invoke = func(ctx context.Context, call *Call, text []byte) (any, error) {
		var input Input
		if err := op.input.Decode(text, &input); err != nil {
			return nil, undecodable(err)
		}
		return handler(ctx, call, input)
	}
	p.operations = append(p.operations, op)
	p.byName[spec.Name] = op
}

// Configurable gives the plugin a configuration, which the operator sets and [Config] returns. `check`, which may be nil, says whether it
// will do: it may connect to what it names, and returns an error with the bad fields if it will not.
func Configurable[C any](p *Plugin, check func(ctx context.Context, config C) error) {
	of := reflect.TypeFor[C]()
	derived, err := schema.For(of)
	if err != nil {
		p.wrong("configuration: %v", err)
		return
	}
	if !derived.IsObject() {
		p.wrong("configuration: %s is no JSON object; take a struct", of)
	}
	if p.config != nil {
		p.wrong("configuration: is given twice")
	}
	p.config = &config{schema: derived, take: func(ctx context.Context, text []byte) (any, error) {
		var config C
		if err := derived.Decode(text, &config); err != nil {
			return nil, undecodable(err)
		}
		if check == nil {
			return config, nil
		}
		return config, check(ctx, config)
	}}
}

// Config is what the operator set. C is the type that [Configurable] was given; it panics for another one.
func Config[C any](call *Call) C {
	config, ok := call.service.configuration().(C)
	if !ok {
		panic(fmt.Sprintf("plugin.Config: the configuration is no %s; name the type that plugin.Configurable was given", reflect.TypeFor[C]()))
	}
	return config
}

func (p *Plugin) checkSpec(spec Spec, missing bool) {
	if !operationName.MatchString(spec.Name) {
		p.wrong("operation: name %q is malformed; use 1 to 63 characters of a-z, 0-9, `_` and `-`, from a letter on", spec.Name)
	}
	if p.byName[spec.Name] != nil {
		p.wrong("operation %q: is there twice; give each its own name", spec.Name)
	}
	if len(p.operations) == maxOperations {
		p.wrong("operation %q: is one too many; a plugin has at most %d", spec.Name, maxOperations)
	}
	if spec.Description == "" {
		p.wrong("operation %q: its description is empty; say what it does", spec.Name)
	}
	if spec.Timeout < 0 {
		p.wrong("operation %q: timeout %s is negative", spec.Name, spec.Timeout)
	}
	if missing {
		p.wrong("operation %q: has no handler", spec.Name)
	}
}

func (p *Plugin) wrong(format string, arguments ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, arguments...))
}

// undecodable is the error of input that matches its schema and still is no value of the Go type, such as a time that is none.
func undecodable(err error) error {
	if wrong, ok := err.(*json.UnmarshalTypeError); ok && wrong.Field != "" {
		return fault.Invalid(fault.Violation{Field: wrong.Field, Description: fmt.Sprintf("%s is no %s", wrong.Value, wrong.Type)})
	}
	return fault.Errorf(codes.InvalidArgument, "the input cannot be read: %w", err)
}
