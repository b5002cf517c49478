package pages

import (
	"fmt"
	"html/template"
	"time"

	"golang.org/x/text/language"
)

// functions are what templates of a language may call; the package comment lists
// them.
func (p *Pages) functions(lang language.Tag) template.FuncMap {
	text := func(of any, args ...any) (string, error) {
		t, err := textOf(of, args)
		if err != nil {
			return "", err
		}
		return p.texts.text(lang, t, func(v any) string { return fmt.Sprint(v) })
	}
	return template.FuncMap{
		"t": text,
		"rich": func(of any, args ...any) (template.HTML, error) {
			t, err := textOf(of, args)
			if err != nil {
				return "", err
			}
			s, err := p.texts.text(lang, t, escape)
			return template.HTML(s), err // of the catalogue; its parameters are escaped
		},
		"when": func(at time.Time) (template.HTML, error) {
			s, err := text(ago(at, time.Now()))
			return element(at, s, moment(at)), err
		},
		"date":  func(at time.Time) template.HTML { return element(at, moment(at), "") },
		"size":  size,
		"asset": p.assets.address,
		"script": func(name string) (template.HTML, error) {
			address, err := p.assets.address(name)
			return template.HTML(`<script type="module" src="` + template.HTMLEscapeString(address) + `"></script>`), err
		},
	}
}

// textOf makes a Text of what a template passes: one, or a key and parameters.
func textOf(of any, args []any) (Text, error) {
	switch of := of.(type) {
	case Text:
		return Text{of.Key, append(of.Args[:len(of.Args):len(of.Args)], args...)}, nil
	case string:
		return Text{of, args}, nil
	}
	return Text{}, fmt.Errorf("%T is no text", of)
}

// moment is a time to the minute.
func moment(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02 15:04 UTC")
}

// element shows a time. Its title tells what text leaves out.
func element(at time.Time, text, title string) template.HTML {
	text = template.HTMLEscapeString(text)
	if at.IsZero() {
		return template.HTML(text)
	}
	if title != "" {
		title = ` title="` + title + `"`
	}
	return template.HTML(`<time datetime="` + at.UTC().Format(time.RFC3339) + `"` + title + `>` + text + `</time>`)
}

// ago says how long before now (or after it) a time is, in the largest unit that
// fits.
func ago(at, now time.Time) Text {
	if at.IsZero() {
		return T("frame.never")
	}
	d := now.Sub(at)
	which := "frame.ago."
	if d < 0 {
		d, which = -d+30*time.Second, "frame.in."
	}
	switch {
	case d < time.Minute:
		return T("frame.ago.now")
	case d < time.Hour:
		return T(which+"minutes", "n", int(d/time.Minute))
	case d < 24*time.Hour:
		return T(which+"hours", "n", int(d/time.Hour))
	}
	return T(which+"days", "n", int(d/(24*time.Hour)))
}

// size is a number of bytes with the unit that suits it.
func size(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1023.95 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[unit])
}
