// Package schema derives JSON Schemas from Go types, and checks values against them.
package schema

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	derive "github.com/google/jsonschema-go/jsonschema"
	validate "github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/types/known/structpb"
)

// Schema is a JSON Schema (2020-12) of a Go type.
type Schema struct {
	document map[string]any
	root     *derive.Schema
	compiled *validate.Schema
	defaults []byte
}

// anything lists the types, as the library would let a pointer to an empty schema be null only.
var anything = &derive.Schema{Types: []string{"array", "boolean", "null", "number", "object", "string"}}

// What encoding/json writes in another way than the type's kind says.
var known = map[reflect.Type]*derive.Schema{
	reflect.TypeFor[[]byte]():          {Type: "string", ContentEncoding: "base64"},
	reflect.TypeFor[json.RawMessage](): anything,
	reflect.TypeFor[json.Number]():     {Type: "number"},
}

// What the library knows itself.
var builtIn = map[reflect.Type]bool{
	reflect.TypeFor[time.Time](): true, reflect.TypeFor[slog.Level](): true,
}

// For derives the schema of a type. Fields with `omitempty`, `omitzero` or a tag `default` are optional, all others required; unknown
// fields are refused. The tag `jsonschema` is the description; the tags minimum, maximum, minLength, maxLength, pattern, format,
// enum (values with commas between them), minItems, maxItems and default are the keywords. A type that may be anything has the
// schema nil. The error names the field that has no JSON form, or a tag that does not fit.
func For(of reflect.Type) (*Schema, error) {
	if of.Kind() == reflect.Interface {
		return nil, nil
	}
	special := maps.Clone(known)
	collect(of, special, map[reflect.Type]bool{})
	root, err := derive.ForType(of, &derive.ForOptions{TypeSchemas: special})
	if err != nil {
		return nil, err
	}
	defaults := map[string]any{}
	if err := tighten(special, of, root, "", defaults); err != nil {
		return nil, err
	}
	text, err := json.Marshal(root)
	if err != nil {
		return nil, err
	}
	schema := &Schema{root: root}
	if err := json.Unmarshal(text, &schema.document); err != nil {
		return nil, fmt.Errorf("%s: its schema is no object", of)
	}
	if len(defaults) > 0 {
		if schema.defaults, err = json.Marshal(defaults); err != nil {
			return nil, err
		}
	}
	if schema.compiled, err = compile(text); err != nil {
		return nil, err
	}
	return schema, nil
}

// Parse reads a schema from its JSON text.
func Parse(text []byte) (*Schema, error) {
	schema := &Schema{root: &derive.Schema{}}
	if err := json.Unmarshal(text, schema.root); err != nil {
		return nil, err
	}
	compiled, err := compile(text)
	schema.compiled = compiled
	return schema, err
}

var (
	marshalers = []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler]()}
	texts      = []reflect.Type{reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()}
)

// collect finds the types within a type that write themselves: as anything, or as text.
func collect(of reflect.Type, special map[reflect.Type]*derive.Schema, seen map[reflect.Type]bool) {
	if special[of] != nil || builtIn[of] || seen[of] {
		return
	}
	seen[of] = true
	is := func(one reflect.Type) bool {
		return of.Kind() != reflect.Pointer && reflect.PointerTo(of).Implements(one)
	}
	switch {
	case slices.ContainsFunc(marshalers, is):
		special[of] = anything
		return
	case slices.ContainsFunc(texts, is):
		special[of] = &derive.Schema{Type: "string"}
		return
	}
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		collect(of.Elem(), special, seen)
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(of) {
			if field.IsExported() {
				collect(field.Type, special, seen)
			}
		}
	}
}

// IsObject tells whether every value is a JSON object.
func (s *Schema) IsObject() bool { return s != nil && s.root.Type == "object" }

// Document is the schema for the wire; nil for a schema that takes anything.
func (s *Schema) Document() (*structpb.Struct, error) {
	if s == nil {
		return nil, nil
	}
	return structpb.NewStruct(s.document)
}

// Decode reads JSON text into a pointer to a value of the type, with the defaults of what is left out.
func (s *Schema) Decode(text []byte, into any) error {
	if s != nil && s.defaults != nil {
		if err := json.Unmarshal(s.defaults, into); err != nil {
			return err
		}
	}
	return json.Unmarshal(text, into)
}

func compile(text []byte) (*validate.Schema, error) {
	document, err := validate.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	compiler := validate.NewCompiler()
	if err := compiler.AddResource("value.json", document); err != nil {
		return nil, err
	}
	return compiler.Compile("value.json")
}
