package admin

import (
	"encoding/json"
	"io"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/mux"
)

//go:generate go test -run ^TestOpenAPI$ . -update

const jsonType = "application/json"

// jsonFormat reads and writes bodies. What a browser takes for HTML is escaped.
var jsonFormat = huma.Format{
	Marshal:   func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) },
	Unmarshal: json.Unmarshal,
}

// schemaName is what the document calls a type.
func schemaName(t reflect.Type, hint string) string {
	switch t {
	case reflect.TypeFor[mux.Info]():
		return "Connection"
	case reflect.TypeFor[mux.Identity]():
		return "Identity"
	}
	name := huma.DefaultSchemaNamer(t, hint)
	if element, ok := strings.CutPrefix(name, "Page"); ok && element != "" {
		if element == "Info" {
			element = "Connection"
		}
		return element + "Page"
	}
	return name
}

// document writes the document with a stable order, for people and git to read.
func document(d *huma.OpenAPI) ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	b, err = json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}
