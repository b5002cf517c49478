package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// print writes a result: as JSON when that was asked for, else with text. The
// error says that not all of it was taken: it may be a secret that is shown once.
func (c *cli) print(v any, text func(io.Writer)) error {
	var b bytes.Buffer
	if c.json {
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return err
		}
	} else {
		text(&b)
	}
	_, err := b.WriteTo(c.stdout)
	return err
}

// table is rows of cells to be aligned in columns.
type table [][]string

func (t *table) row(cells ...string) { *t = append(*t, cells) }

// write aligns the columns. What came from outside is made harmless to
// terminals.
func (t table) write(w io.Writer) {
	var widths []int
	for _, row := range t {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(harmless(cell)))
		}
	}
	for _, row := range t {
		var line strings.Builder
		for i, cell := range row {
			cell = harmless(cell)
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// harmless replaces control characters, and shows that a cell is empty.
func harmless(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// fields is a table of names and values, for showing one thing.
type fields struct{ table }

// add adds a field; an empty name continues the one above.
func (f *fields) add(name, value string) {
	if name != "" {
		name += ":"
	} else {
		name = " "
	}
	f.row(name, value)
}

// when formats a time for people, in their zone.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

// whenOr is when, with a word for the zero time.
func whenOr(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return when(t)
}

// bytesText formats a number of bytes for people.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
