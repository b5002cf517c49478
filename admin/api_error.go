package admin

import (
	"cmp"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const problemType = "application/problem+json"

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter (RFC 9457 section 3).
func (p *Problem) ContentType(string) string { return problemType }

// toProblem is a huma.Transformer: it makes huma's own errors Problems. Those
// quote what was sent, which may be a password; Problems do not.
func (a *api) toProblem(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &Problem{Status: e.Status, Code: CodeInvalid, Detail: "the request is not what is expected here"}
	switch {
	case e.Status == http.StatusRequestEntityTooLarge:
		p.Detail = "body: is too long"
	case e.Status == http.StatusInternalServerError:
		p.Code, p.Detail, p.Hint = CodeInternal, "internal error", "the gateway's log says what happened"
	case e.Status == http.StatusBadRequest && len(e.Errors) == 0:
		p.Detail = "body: must not be empty"
	case len(e.Errors) > 0:
		var told []string
		for _, d := range e.Errors {
			told = append(told, a.where(d.Location)+": "+what(d.Message))
		}
		p.Detail = strings.Join(told, "; ")
	}
	return p.complete(), nil
}

// where is the place of an error, as far as it consists of names that the
// document has.
func (a *api) where(location string) string {
	var known []string
	for part := range strings.SplitSeq(location, ".") {
		name, _, _ := strings.Cut(part, "[")
		if !a.names[name] {
			break
		}
		known = append(known, name)
	}
	if len(known) > 1 {
		known = known[1:] // "body.address" is the address to people
	}
	return cmp.Or(strings.Join(known, "."), "request")
}

// harmlessMessage matches what huma says that quotes nothing but the document.
var harmlessMessage = regexp.MustCompile(`^(unexpected property|unknown query parameter|required \w+ parameter is missing|` +
	`expected (string|integer|number|boolean|object|array)|expected required property \w+ to be present|` +
	`expected string to be RFC 3339 date-time|expected (number|length|array length) [<>]=? [0-9.]+|expected value to be one of "[\w, ]+")$`)

func what(message string) string {
	if harmlessMessage.MatchString(message) {
		return message
	}
	return "is not what is expected here"
}

// namesOf collects the names of parameters and properties in the document.
func namesOf(d *huma.OpenAPI) map[string]bool {
	names := map[string]bool{"body": true, "path": true, "query": true, "header": true}
	for _, s := range d.Components.Schemas.Map() {
		for name := range s.Properties {
			names[name] = true
		}
	}
	for _, item := range d.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete, item.Patch} {
			if op == nil {
				continue
			}
			for _, p := range op.Parameters {
				names[p.Name] = true
			}
		}
	}
	return names
}
