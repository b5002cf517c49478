package admin

import (
	_ "embed"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed docs.html
var docsPage string

//go:embed docs.css
var docsStyle []byte

// mountDocs serves the document, and a page of it that is made here: no script,
// and nothing from elsewhere.
func (s *Service) mountDocs(m *http.ServeMux) {
	d := newAPI(new(Service)).huma.OpenAPI()
	text, err := document(d)
	if err != nil {
		panic(err) // of a document that a test writes out
	}
	page := new(strings.Builder)
	if err := docsTemplate().Execute(page, docsOf(d)); err != nil {
		panic(err) // of a page that a test looks at
	}
	serve := func(name, contentType string, b []byte) {
		m.HandleFunc("GET "+gatePath+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Cache-Control", "no-cache")
			_, _ = w.Write(b) // the client went away; nobody is left to tell
		})
	}
	serve("openapi.json", "application/openapi+json", text)
	serve("docs", "text/html; charset=utf-8", []byte(page.String()))
	serve("docs.css", "text/css; charset=utf-8", docsStyle)
}

func docsTemplate() *template.Template { return template.Must(template.New("docs").Parse(docsPage)) }

// docs is the document, in the order of the page.
type docs struct {
	*huma.OpenAPI
	Base     string
	Sections []docsSection
	Types    []docsType
}

type docsSection struct {
	*huma.Tag
	Operations []docsOperation
}

type docsOperation struct {
	*huma.Operation
	Scope  string
	Takes  string // name of the body's type; empty: none
	Gives  string // name of the answer's type; empty: none
	Status string // of success
	Fails  string // other statuses
}

type docsType struct {
	Name   string
	Fields []docsField
}

type docsField struct {
	Name, Type, About string
	Required          bool
}

func docsOf(d *huma.OpenAPI) docs {
	page := docs{OpenAPI: d, Base: APIPath}
	for _, tag := range d.Tags {
		section := docsSection{Tag: tag}
		for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
			item := d.Paths[path]
			for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
				if op != nil && slices.Contains(op.Tags, tag.Name) {
					section.Operations = append(section.Operations, docsOperationOf(op))
				}
			}
		}
		page.Sections = append(page.Sections, section)
	}
	schemas := d.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		t := docsType{Name: name}
		for _, field := range slices.Sorted(maps.Keys(schemas[name].Properties)) {
			s := schemas[name].Properties[field]
			t.Fields = append(t.Fields, docsField{field, typeName(s), s.Description, slices.Contains(schemas[name].Required, field)})
		}
		page.Types = append(page.Types, t)
	}
	return page
}

func docsOperationOf(op *huma.Operation) docsOperation {
	o := docsOperation{Operation: op}
	for _, need := range op.Security {
		if scopes := need["token"]; len(scopes) > 0 {
			o.Scope = scopes[0]
		}
	}
	if op.RequestBody != nil {
		o.Takes = contentName(op.RequestBody.Content)
	}
	var fails []string
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		if strings.HasPrefix(status, "2") {
			o.Status, o.Gives = status, contentName(op.Responses[status].Content)
			continue
		}
		fails = append(fails, status)
	}
	o.Fails = strings.Join(fails, ", ")
	return o
}

func contentName(content map[string]*huma.MediaType) string {
	if c := content[jsonType]; c != nil && c.Schema != nil {
		return typeName(c.Schema)
	}
	return ""
}

// typeName says what a schema is, in a few words.
func typeName(s *huma.Schema) string {
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Type == huma.TypeArray && s.Items != nil:
		return "list of " + typeName(s.Items)
	case len(s.Enum) > 0:
		var names []string
		for _, v := range s.Enum {
			if name, ok := v.(string); ok {
				names = append(names, name)
			}
		}
		return strings.Join(names, " | ")
	case s.Format != "":
		return s.Type + " (" + s.Format + ")"
	}
	return s.Type
}
