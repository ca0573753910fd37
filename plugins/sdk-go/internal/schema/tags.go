package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	derive "github.com/google/jsonschema-go/jsonschema"
)

// tighten puts the keywords of the struct tags into a derived schema. What is a default goes into defaults, by name; these are nil
// where nothing is there to have them: in lists, maps and behind pointers.
func tighten(special map[reflect.Type]*derive.Schema, of reflect.Type, schema *derive.Schema, path string, defaults map[string]any) error {
	for of.Kind() == reflect.Pointer {
		of, defaults = of.Elem(), nil
	}
	if special[of] != nil || builtIn[of] || schema == nil {
		return nil
	}
	switch of.Kind() {
	case reflect.Slice, reflect.Array:
		return tighten(special, of.Elem(), schema.Items, path+"[]", nil)
	case reflect.Map:
		return tighten(special, of.Elem(), schema.AdditionalProperties, path+"{}", nil)
	case reflect.Struct:
	default:
		return nil
	}
	for _, field := range reflect.VisibleFields(of) {
		name := fieldName(field)
		property := schema.Properties[name]
		if name == "" || property == nil {
			continue
		}
		where := strings.TrimPrefix(path+"."+name, ".")
		if err := constrain(field, property, where); err != nil {
			return err
		}
		if text, ok := field.Tag.Lookup("default"); ok {
			if defaults == nil {
				return fmt.Errorf("%s: a default can stand in the input itself and in structs within it only", where)
			}
			value, err := literal(field.Type, text)
			if err != nil {
				return fmt.Errorf("%s: default %q: %w", where, text, err)
			}
			property.Default, _ = json.Marshal(value)
			defaults[name] = value
			schema.Required = slices.DeleteFunc(schema.Required, func(each string) bool { return each == name })
		}
		var inner map[string]any
		if defaults != nil && field.Type.Kind() == reflect.Struct {
			inner = map[string]any{}
		}
		if err := tighten(special, field.Type, property, where, inner); err != nil {
			return err
		}
		if len(inner) > 0 {
			defaults[name] = inner
		}
	}
	return nil
}

// constrain puts the keywords of one field into its schema; those for values of a list go to its items.
func constrain(field reflect.StructField, schema *derive.Schema, where string) error {
	of, value := field.Type, schema
	for {
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		} else if kind := of.Kind(); (kind == reflect.Slice || kind == reflect.Array) && value.Items != nil {
			of, value = of.Elem(), value.Items
		} else {
			break
		}
	}
	var err error
	keyword := func(name string, put func(text string) error) {
		text, ok := field.Tag.Lookup(name)
		if !ok || err != nil {
			return
		}
		if problem := put(text); problem != nil {
			err = fmt.Errorf("%s: %s %q: %w", where, name, text, problem)
		}
	}
	number := func(into **float64) func(string) error {
		return func(text string) error {
			parsed, err := strconv.ParseFloat(text, 64)
			*into = &parsed
			return err
		}
	}
	count := func(into **int) func(string) error {
		return func(text string) error {
			parsed, err := strconv.Atoi(text)
			*into = &parsed
			return err
		}
	}
	keyword("minimum", number(&value.Minimum))
	keyword("maximum", number(&value.Maximum))
	keyword("minLength", count(&value.MinLength))
	keyword("maxLength", count(&value.MaxLength))
	keyword("minItems", count(&schema.MinItems))
	keyword("maxItems", count(&schema.MaxItems))
	keyword("format", func(text string) error { value.Format = text; return nil })
	keyword("pattern", func(text string) error {
		value.Pattern = text
		_, err := regexp.Compile(text)
		return err
	})
	keyword("enum", func(text string) error {
		for _, each := range strings.Split(text, ",") {
			choice, err := literal(of, each)
			if err != nil {
				return err
			}
			value.Enum = append(value.Enum, choice)
		}
		if slices.Contains(value.Types, "null") {
			value.Enum = append(value.Enum, nil)
		}
		return nil
	})
	return err
}

// literal reads the text of a tag: a string as it stands, anything else as JSON.
func literal(of reflect.Type, text string) (any, error) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if of.Kind() == reflect.String {
		return text, nil
	}
	into := reflect.New(of)
	if err := json.Unmarshal([]byte(text), into.Interface()); err != nil {
		return nil, fmt.Errorf("it is no %s", of)
	}
	return into.Elem().Interface(), nil
}

// fieldName is the name that encoding/json gives a field; empty if it gives none.
func fieldName(field reflect.StructField) string {
	tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	switch {
	case !field.IsExported() || field.Anonymous && tag == "" || field.Tag.Get("json") == "-":
		return ""
	case tag != "":
		return tag
	}
	return field.Name
}
