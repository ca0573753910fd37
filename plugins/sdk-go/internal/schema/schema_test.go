package schema

import (
	"encoding/json"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Name  string `json:"name" minLength:"1"`
	Depth int    `json:"depth" default:"3"`
}

type outer struct {
	Path  string            `json:"path" jsonschema:"Where it is." pattern:"^/"`
	Kind  string            `json:"kind,omitempty" enum:"file,folder"`
	Count *int              `json:"count,omitempty" minimum:"1" maximum:"9"`
	Tags  []string          `json:"tags,omitempty" maxItems:"2" maxLength:"3"`
	Items []struct{ N int } `json:"items,omitempty"`
	Inner inner             `json:"inner,omitzero"`
	Map   map[string]inner2 `json:"map,omitempty"`
	Data  []byte            `json:"data,omitempty"`
	When  time.Time         `json:"when,omitzero"`
	Any   any               `json:"any,omitempty"`
	Raw   json.RawMessage   `json:"raw,omitempty"`
	Limit int               `json:"limit" default:"10"`
	Tick  bool              `json:"-"`
}

type inner2 struct {
	B bool `json:"b"`
}

func of[T any](t *testing.T) *Schema {
	t.Helper()
	schema, err := For(reflect.TypeFor[T]())
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestWhatIsWrongIsNamedByField(t *testing.T) {
	schema := of[outer](t)
	for text, want := range map[string]string{
		`{"path":"/a"}`: "",
		`{"path":"/a","kind":"file","count":9,"tags":["abc"],"inner":{"name":"x"},"map":{"k":{"b":true}},"data":"aGk=","any":[1]}`: "",
		`{}`:                                         "path: is missing",
		`{"path":"a"}`:                               "path: 'a' does not match pattern '^/'",
		`{"path":"/a","kind":"link"}`:                "kind: value must be one of 'file', 'folder'",
		`{"path":"/a","count":0}`:                    "count: minimum: got 0, want 1",
		`{"path":"/a","count":1.5}`:                  "count: got number, want null or integer",
		`{"path":"/a","tags":["abcd"]}`:              "tags[0]: maxLength: got 4, want 3",
		`{"path":"/a","items":[{}]}`:                 "items[0].N: is missing",
		`{"path":"/a","inner":{}}`:                   "inner.name: is missing",
		`{"path":"/a","map":{"k":{}}}`:               "map.k.b: is missing",
		`{"path":"/a","map":{"k":{"b":true,"c":1}}}`: "map.k.c: is not known; known are b",
		`[]`:                     "input: got array, want object",
		`{"path":`:               "input: is no JSON: unexpected EOF",
		`{"path":1,"count":"x"}`: "count: got string, want null or integer|path: got number, want string",
	} {
		var got []string
		for _, wrong := range schema.Check([]byte(text), "input") {
			got = append(got, wrong.Field+": "+wrong.Description)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%s\n got %s\nwant %s", text, strings.Join(got, "|"), want)
		}
	}
}

func TestDefaultsStandInTheSchemaAndInWhatIsLeftOut(t *testing.T) {
	schema := of[outer](t)
	var value outer
	if err := schema.Decode([]byte(`{"path":"/a"}`), &value); err != nil {
		t.Fatal(err)
	}
	if value.Limit != 10 || value.Inner.Depth != 3 {
		t.Errorf("got %+v", value)
	}
	if err := schema.Decode([]byte(`{"path":"/a","limit":0,"inner":{"name":"n","depth":1}}`), &value); err != nil {
		t.Fatal(err)
	}
	if value.Limit != 0 || value.Inner.Depth != 1 {
		t.Errorf("got %+v", value)
	}
	document, err := schema.Document()
	if err != nil {
		t.Fatal(err)
	}
	limit := document.Fields["properties"].GetStructValue().Fields["limit"].GetStructValue().AsMap()
	if limit["default"] != 10.0 || limit["type"] != "integer" {
		t.Errorf("got %v", limit)
	}
	if required := document.Fields["required"].GetListValue().AsSlice(); !reflect.DeepEqual(required, []any{"path"}) {
		t.Errorf("required are %v", required)
	}
}

func TestWhatGoWritesMatchesItsSchema(t *testing.T) {
	type output struct {
		List  []string          `json:"list"`
		Map   map[string]string `json:"map,omitempty"`
		Maybe *inner2           `json:"maybe"`
		Kind  *string           `json:"kind" enum:"a,b"`
		Data  []byte            `json:"data"`
		When  time.Time         `json:"when"`
		From  netip.Addr        `json:"from"`
		Odd   odd               `json:"odd"`
		Big   *big.Int          `json:"big"`
		Rat   *big.Rat          `json:"rat"`
		Odds  []*odd            `json:"odds"`
	}
	text, err := json.Marshal(output{Data: []byte("x"), Big: big.NewInt(3), Rat: big.NewRat(1, 3), Odds: []*odd{nil, {}}})
	if err != nil {
		t.Fatal(err)
	}
	if wrong := of[output](t).Check(text, "output"); wrong != nil {
		t.Errorf("%s: %v", text, wrong)
	}
}

func TestTypesAndTagsThatWillNotDo(t *testing.T) {
	for want, of := range map[string]reflect.Type{
		"unsupported": reflect.TypeFor[struct{ F func() }](),
		"cycle":       reflect.TypeFor[loop](),
		`n: minimum "x"`: reflect.TypeFor[struct {
			N int `json:"n" minimum:"x"`
		}](),
		`n: default "x": it is no int`: reflect.TypeFor[struct {
			N int `json:"n" default:"x"`
		}](),
		`p: pattern "("`: reflect.TypeFor[struct {
			P string `json:"p" pattern:"("`
		}](),
		"l[].n: a default can stand in the in": reflect.TypeFor[struct {
			L []struct {
				N int `json:"n" default:"1"`
			} `json:"l"`
		}](),
	} {
		if _, err := For(of); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", of, err, want)
		}
	}
	if schema, err := For(reflect.TypeFor[any]()); schema != nil || err != nil {
		t.Errorf("any has the schema %v, error %v", schema, err)
	}
}

// odd writes itself in its own way.
type odd struct{ hidden int }

func (odd) MarshalJSON() ([]byte, error) { return []byte(`[1,"two"]`), nil }

type loop struct{ Next *loop }
