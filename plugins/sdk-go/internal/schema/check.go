package schema

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	validate "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
)

var english = message.NewPrinter(language.English)

// Check finds what is wrong with JSON text, by field: nothing if it matches. `root` names the value itself.
func (s *Schema) Check(text []byte, root string) []fault.Violation {
	value, err := validate.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return []fault.Violation{{Field: root, Description: "is no JSON: " + err.Error()}}
	}
	if s == nil {
		return nil
	}
	var wrong *validate.ValidationError
	if err := s.compiled.Validate(value); err == nil {
		return nil
	} else if !errors.As(err, &wrong) {
		return []fault.Violation{{Field: root, Description: err.Error()}}
	}
	var found []fault.Violation
	s.collect(wrong, root, &found)
	slices.SortStableFunc(found, func(a, b fault.Violation) int { return strings.Compare(a.Field, b.Field) })
	return found
}

func (s *Schema) collect(wrong *validate.ValidationError, root string, found *[]fault.Violation) {
	for _, cause := range wrong.Causes {
		s.collect(cause, root, found)
	}
	if len(wrong.Causes) > 0 {
		return
	}
	add := func(keys []string, description string) {
		*found = append(*found, fault.Violation{Field: fieldPath(keys, root), Description: description})
	}
	at := wrong.InstanceLocation
	switch problem := wrong.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range problem.Missing {
			add(append(slices.Clone(at), name), "is missing")
		}
	case *kind.AdditionalProperties:
		for _, name := range problem.Properties {
			add(append(slices.Clone(at), name), "is not known"+s.choices(at))
		}
	default:
		add(at, wrong.ErrorKind.LocalizedString(english))
	}
}

// choices lists the fields that an object knows.
func (s *Schema) choices(at []string) string {
	schema := s.root
	for _, key := range at {
		if schema == nil {
			return ""
		} else if inner, ok := schema.Properties[key]; ok {
			schema = inner
		} else if schema.Items != nil {
			schema = schema.Items
		} else {
			schema = schema.AdditionalProperties
		}
	}
	if schema == nil || len(schema.PropertyOrder) == 0 {
		return ""
	}
	return fmt.Sprintf("; known are %s", strings.Join(schema.PropertyOrder, ", "))
}

// fieldPath writes a place in a value as people do: `items[2].name`.
func fieldPath(keys []string, root string) string {
	var path strings.Builder
	for _, key := range keys {
		if _, err := strconv.Atoi(key); err == nil {
			fmt.Fprintf(&path, "[%s]", key)
			continue
		}
		if path.Len() > 0 {
			path.WriteByte('.')
		}
		path.WriteString(key)
	}
	if path.Len() == 0 {
		return root
	}
	return path.String()
}
