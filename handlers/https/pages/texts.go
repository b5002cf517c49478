package pages

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"net/http"
	"path"
	"slices"
	"strings"
	"text/template/parse"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

// Text is a text of the catalogue and what is put into it.
type Text struct {
	Key  string `json:"key"`
	Args []any  `json:"args,omitempty"` // name and value in turn; values are strings or whole numbers
}

// T returns the text with a key; args are names and values in turn.
func T(key string, args ...any) Text { return Text{key, args} }

// catalogue holds the texts of all packages in all languages.
type catalogue struct {
	languages []language.Tag // English first
	matcher   language.Matcher
	texts     map[language.Tag]map[string]forms
}

// forms are a text's plural forms; one without has plural.Other alone.
type forms map[plural.Form]string

func newCatalogue() *catalogue {
	c := &catalogue{texts: map[language.Tag]map[string]forms{language.English: {}}}
	c.languages = []language.Tag{language.English}
	c.matcher = language.NewMatcher(c.languages)
	return c
}

// match returns the language that a request is answered in.
func (c *catalogue) match(r *http.Request) language.Tag {
	_, i := language.MatchStrings(c.matcher, r.Header.Get("Accept-Language"))
	return c.languages[i]
}

// add reads the texts of a package. The languages are those of the frame.
func (c *catalogue) add(name string, files fs.FS) error {
	names, err := fs.Glob(files, "texts/*.json")
	if err != nil {
		return err
	}
	for _, n := range names {
		b, err := fs.ReadFile(files, n)
		if err != nil {
			return err
		}
		lang, err := language.Parse(strings.TrimSuffix(path.Base(n), ".json"))
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
		if err := c.read(name, lang, b); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return nil
}

func (c *catalogue) read(name string, lang language.Tag, b []byte) error {
	texts := c.texts[lang]
	switch {
	case texts == nil && name == frameName:
		texts = make(map[string]forms)
		c.texts[lang] = texts
		c.languages = append(c.languages, lang)
		c.matcher = language.NewMatcher(c.languages)
	case texts == nil:
		return fmt.Errorf("the frame does not speak %s", lang)
	}
	var all map[string]forms
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for key, f := range all {
		if !strings.HasPrefix(key, name+".") {
			return fmt.Errorf("%q does not begin with %q", key, name+".")
		}
		texts[key] = f
	}
	return nil
}

var categories = map[string]plural.Form{"zero": plural.Zero, "one": plural.One, "two": plural.Two,
	"few": plural.Few, "many": plural.Many, "other": plural.Other}

// UnmarshalJSON reads a text, or an object of plural forms.
func (f *forms) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err == nil {
		*f = forms{plural.Other: text}
		return nil
	}
	var by map[string]string
	if err := json.Unmarshal(b, &by); err != nil {
		return err
	}
	*f = make(forms)
	for category, text := range by {
		form, ok := categories[category]
		if !ok {
			return fmt.Errorf("%q is no plural category", category)
		}
		(*f)[form] = text
	}
	if _, ok := (*f)[plural.Other]; !ok {
		return errors.New("plural forms without other")
	}
	return nil
}

// find returns a text's form in a language, or else in English.
func (c *catalogue) find(lang language.Tag, t Text) (string, error) {
	f, ok := c.texts[lang][t.Key]
	if !ok {
		lang = language.English
		f, ok = c.texts[lang][t.Key]
	}
	if !ok {
		return "", fmt.Errorf("there is no text %q", t.Key)
	}
	if n, ok := t.number(); ok {
		if text, ok := f[plural.Cardinal.MatchPlural(lang, n, 0, 0, 0, 0)]; ok {
			return text, nil
		}
	}
	return f[plural.Other], nil
}

// number is the parameter n, which selects the plural form.
func (t Text) number() (n int, ok bool) {
	i := slices.Index(t.Args, any("n"))
	if i < 0 || i%2 != 0 || i+1 >= len(t.Args) {
		return 0, false
	}
	switch v := t.Args[i+1].(type) {
	case int:
		return v, true
	case int64:
		return int(v), true
	case float64: // out of JSON
		return int(v), v == math.Trunc(v)
	}
	return 0, false
}

// text returns a text with its parameters put in, each as show shows it.
func (c *catalogue) text(lang language.Tag, t Text, show func(any) string) (string, error) {
	s, err := c.find(lang, t)
	if err != nil {
		return "", err
	}
	if len(t.Args)%2 != 0 {
		return "", fmt.Errorf("text %q: a parameter without a value", t.Key)
	}
	pairs := make([]string, 0, len(t.Args))
	for i := 0; i < len(t.Args); i += 2 {
		pairs = append(pairs, "{"+fmt.Sprint(t.Args[i])+"}", show(t.Args[i+1]))
	}
	return strings.NewReplacer(pairs...).Replace(s), nil
}

// Text returns a text in the language of a request, for answers that are no pages: it
// is none of HTML. One that is not there is a bug, and empty.
func (p *Pages) Text(r *http.Request, t Text) string {
	s, err := p.texts.text(p.texts.match(r), t, func(v any) string { return fmt.Sprint(v) })
	if err != nil {
		p.log.Error().Err(err).Str("path", r.URL.Path).Msg("text failed")
	}
	return s
}

// escape shows a value inside HTML.
func escape(v any) string {
	if h, ok := v.(template.HTML); ok {
		return string(h)
	}
	return template.HTMLEscapeString(fmt.Sprint(v))
}

// check finds keys in templates that no text has.
func (c *catalogue) check(t *template.Template) error {
	for _, part := range t.Templates() {
		if part.Tree == nil {
			continue
		}
		for key := range keysIn(part.Tree.Root) {
			if _, ok := c.texts[language.English][key]; !ok {
				return fmt.Errorf("there is no text %q", key)
			}
		}
	}
	return nil
}

// keysIn returns the keys that t and rich are called with as literals.
func keysIn(root parse.Node) map[string]bool {
	keys := make(map[string]bool)
	var walk func(parse.Node)
	list := func(l *parse.ListNode) {
		if l != nil {
			for _, n := range l.Nodes {
				walk(n)
			}
		}
	}
	branch := func(b *parse.BranchNode) {
		walk(b.Pipe)
		list(b.List)
		list(b.ElseList)
	}
	walk = func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ListNode:
			list(n)
		case *parse.ActionNode:
			walk(n.Pipe)
		case *parse.IfNode:
			branch(&n.BranchNode)
		case *parse.RangeNode:
			branch(&n.BranchNode)
		case *parse.WithNode:
			branch(&n.BranchNode)
		case *parse.TemplateNode:
			if n.Pipe != nil {
				walk(n.Pipe)
			}
		case *parse.PipeNode:
			for _, cmd := range n.Cmds {
				walk(cmd)
			}
		case *parse.CommandNode:
			if key, ok := keyOf(n); ok {
				keys[key] = true
			}
			for _, arg := range n.Args {
				walk(arg)
			}
		}
	}
	walk(root)
	return keys
}

func keyOf(n *parse.CommandNode) (string, bool) {
	if len(n.Args) < 2 {
		return "", false
	}
	id, ok := n.Args[0].(*parse.IdentifierNode)
	if !ok || id.Ident != "t" && id.Ident != "rich" {
		return "", false
	}
	s, ok := n.Args[1].(*parse.StringNode)
	if !ok {
		return "", false
	}
	return s.Text, true
}
