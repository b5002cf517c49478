package pages

import (
	"fmt"
	"net/http"
)

// Say returns a text in the language that a request is answered in, for scripts
// to show. It is none of HTML.
func (p *Pages) Say(r *http.Request, t Text) (string, error) {
	return p.texts.text(p.texts.match(r), t, func(v any) string { return fmt.Sprint(v) })
}
