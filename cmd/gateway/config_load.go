package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Mistake is one thing that is wrong with a configuration file.
type Mistake struct {
	Line int    `json:"line"` // 0: of no line in particular
	Text string `json:"text"`
}

// MistakesError is all that is wrong with a configuration file, by line.
type MistakesError struct {
	File     string
	Mistakes []Mistake
}

func (e *MistakesError) Error() string {
	var lines []string
	for _, m := range e.Mistakes {
		if m.Line == 0 {
			lines = append(lines, fmt.Sprintf("%s: %s", e.File, m.Text))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s:%d: %s", e.File, m.Line, m.Text))
	}
	return strings.Join(lines, "\n")
}

// loadConfig reads a configuration file over the defaults. What is wrong in
// the file is a *MistakesError that holds all of it.
func loadConfig(file string) (*Config, error) { return readConfig(file, nil) }

// loadForServing is loadConfig for those who need the files that a
// configuration names, too.
func loadForServing(file string) (*Config, error) { return readConfig(file, (*Config).checkFiles) }

func readConfig(file string, more func(*Config) problems) (*Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	root, c, mistakes := readTree(data)
	c.resolve(filepath.Dir(file))
	if more != nil {
		mistakes = append(mistakes, locate(root, more(c))...)
	}
	if mistakes = byLine(mistakes); len(mistakes) > 0 {
		return nil, withHint(&MistakesError{file, mistakes}, "config.yaml in the source explains every key")
	}
	return c, nil
}

// parseConfig reads a configuration over the defaults, and reports everything
// that is wrong with it, by line.
func parseConfig(data []byte) (*Config, []Mistake) {
	_, c, mistakes := readTree(data)
	return c, byLine(mistakes)
}

// readTree is parseConfig that returns the tree as well; nil: there is none.
func readTree(data []byte) (root *yaml.Node, c *Config, mistakes []Mistake) {
	c = defaultConfig()
	root, mistakes = parseTree(data)
	if root == nil {
		return nil, c, mistakes
	}
	mistakes = checkKeys(root, reflect.TypeFor[Config](), "")
	mistakes = append(mistakes, mistakesOf(root.Decode(c))...)
	return root, c, append(mistakes, locate(root, c.check())...)
}

// locate finds the lines of problems; a nil root has none.
func locate(root *yaml.Node, all problems) (mistakes []Mistake) {
	for _, p := range all {
		line := 0
		if root != nil {
			line = lineOf(root, p.key)
		}
		mistakes = append(mistakes, Mistake{line, p.key + " " + p.text})
	}
	return mistakes
}

// byLine sorts mistakes. What could not be read is not worth a second complaint
// about its value.
func byLine(mistakes []Mistake) []Mistake {
	slices.SortStableFunc(mistakes, func(a, b Mistake) int { return cmp.Compare(a.Line, b.Line) })
	return slices.CompactFunc(mistakes, func(a, b Mistake) bool { return a.Line == b.Line && a.Line != 0 })
}

// parseTree returns a document's root; nil when there is none, which is no
// mistake when the file is empty.
func parseTree(data []byte) (*yaml.Node, []Mistake) {
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		return nil, mistakesOf(err)
	}
	var doc, more yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, mistakesOf(err)
	}
	if err := loader.Load(&more); err == nil {
		return nil, []Mistake{{more.Line, "a second document begins here"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, mistakesOf(err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	return root, nil
}

func mistakesOf(err error) []Mistake {
	if err == nil {
		return nil
	}
	var all *yaml.LoadErrors
	if errors.As(err, &all) {
		var mistakes []Mistake
		for _, e := range all.Errors {
			mistakes = append(mistakes, Mistake{e.Mark.Line, e.Message})
		}
		return mistakes
	}
	if one := (*yaml.LoadError)(nil); errors.As(err, &one) {
		return []Mistake{{one.Mark.Line, one.Message}}
	}
	return []Mistake{{0, err.Error()}}
}

// checkKeys reports unknown and repeated keys below a node that is to become a
// t, and takes them out, so that decoding finds the other mistakes too.
func checkKeys(n *yaml.Node, t reflect.Type, path string) []Mistake {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		blank(n)
		return []Mistake{{n.Line, "anchors and aliases are not used here"}}
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		var mistakes []Mistake
		for i, item := range n.Content {
			mistakes = append(mistakes, checkKeys(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))...)
		}
		return mistakes
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		return checkMapping(n, t, path)
	}
	if text := misfit(n, t); text != "" {
		blank(n)
		return []Mistake{{n.Line, cmp.Or(path, "the file") + text}}
	}
	return nil
}

// blank takes out what a node holds.
func blank(n *yaml.Node) {
	n.Kind, n.Tag, n.Value, n.Anchor, n.Alias, n.Content = yaml.ScalarNode, "!!null", "", "", nil, nil
}

// kinds are what values are called that are of no type of ours.
var kinds = map[reflect.Kind]string{
	reflect.Bool: "true or false", reflect.Int: "a number", reflect.Uint16: "a number", reflect.String: "text",
	reflect.Slice: "a list, such as [a, b]", reflect.Struct: "keys with values", reflect.Map: "keys with values",
}

// misfit says what is wrong with a node that cannot become a t, as what comes
// after its key in a sentence; empty: nothing, or nothing that could be said better
// than by decoding it.
func misfit(n *yaml.Node, t reflect.Type) string {
	if t.Kind() == reflect.Map && n.Kind == yaml.MappingNode {
		return ""
	}
	mistakes := mistakesOf(n.Decode(reflect.New(t).Interface()))
	switch kind := kinds[t.Kind()]; {
	case len(mistakes) == 0:
		return ""
	case kind == "":
		return ": " + mistakes[0].Text
	case n.Kind == yaml.SequenceNode:
		return " must be " + kind + ", not a list"
	case n.Kind == yaml.MappingNode:
		return " must be " + kind + ", not keys with values"
	default:
		return fmt.Sprintf(" must be %s, not %q", kind, shorten(n.Value))
	}
}

func checkMapping(n *yaml.Node, t reflect.Type, path string) (mistakes []Mistake) {
	fields := fieldsOf(t)
	seen := make(map[string]int)
	var known []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		field, ok := fields[name]
		switch first := seen[name]; {
		case !ok:
			mistakes = append(mistakes, Mistake{key.Line, unknownKey(join(path, name), name, fields)})
			continue
		case first != 0:
			mistakes = append(mistakes, Mistake{key.Line, fmt.Sprintf("%s stands on line %d already", join(path, name), first)})
			continue
		}
		seen[name] = key.Line
		found := checkKeys(value, field, join(path, name))
		mistakes = append(mistakes, found...)
		if len(found) == 0 || value.Kind != yaml.ScalarNode { // else it has its default
			known = append(known, key, value)
		}
	}
	n.Content = known
	return mistakes
}

func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := make(map[string]reflect.Type)
	for f := range t.Fields() {
		if f.Anonymous { // inline
			maps.Copy(fields, fieldsOf(f.Type))
			continue
		}
		fields[f.Tag.Get("yaml")] = f.Type
	}
	return fields
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// unknownKey says that a key is not known, and which one may be meant.
func unknownKey(path, name string, fields map[string]reflect.Type) string {
	best, least := "", 3
	for f := range fields {
		if d := distance(f, name); d < least || d == least && best != "" && f < best {
			best, least = f, d
		}
	}
	if best == "" {
		return fmt.Sprintf("%q is not a key", path)
	}
	return fmt.Sprintf("%q is not a key; is %s meant?", path, best)
}

// distance is how many letters to change to turn a into b (Levenshtein).
func distance(a, b string) int {
	if len(b) > 64 {
		return len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// lineOf returns the line on which a key such as "tls.files[1].cert" stands,
// or that of the last part of its path that is there.
func lineOf(n *yaml.Node, key string) int {
	line := 0
	for part := range strings.SplitSeq(strings.ReplaceAll(key, "[", ".["), ".") {
		next := child(n, part)
		if next == nil {
			break
		}
		n, line = next.value, next.line
	}
	return line
}

type located struct {
	value *yaml.Node
	line  int
}

func child(n *yaml.Node, part string) *located {
	var i int
	if _, err := fmt.Sscanf(part, "[%d]", &i); err == nil && n.Kind == yaml.SequenceNode && i < len(n.Content) {
		return &located{n.Content[i], n.Content[i].Line}
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == part {
			return &located{n.Content[i+1], n.Content[i].Line}
		}
	}
	return nil
}
