package console

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// shared are the modules that every page needs, for browsers to load at once
// instead of one after the other.
var shared = []string{"api.js", "catalogue.js", "dialog.js", "dom.js", "format.js", "frame.js", "poll.js", "session.js", "table.js", "texts.js"}

// modules are the pages' scripts. They import each other by relative names, so the
// directory that they are in tells their content, not each name. There is a directory
// for each language, whose catalogue.js has the texts.
type modules struct {
	prefix, version string
	files           map[string][]byte // by language and name: "en/api.js"
}

// scriptTexts is what keys of texts begin with that scripts show.
const scriptTexts = "console.js."

func newModules(files fs.FS, prefix string) (*modules, error) {
	m := &modules{prefix: prefix, files: make(map[string][]byte)}
	sum := sha256.New()
	names, err := fs.Glob(files, "modules/*.js")
	if err != nil {
		return nil, err
	}
	languages, err := fs.Glob(files, "texts/*.json")
	if err != nil {
		return nil, err
	}
	english, err := readTexts(files, "texts/en.json")
	if err != nil {
		return nil, err
	}
	for _, l := range languages {
		language := strings.TrimSuffix(path.Base(l), ".json")
		catalogue, err := newCatalogue(files, l, language, english)
		if err != nil {
			return nil, err
		}
		m.files[language+"/catalogue.js"] = catalogue
		sum.Write(catalogue)
		for _, n := range names {
			b, err := fs.ReadFile(files, n)
			if err != nil {
				return nil, err
			}
			m.files[language+"/"+path.Base(n)] = b
			sum.Write(b)
		}
	}
	m.version = hex.EncodeToString(sum.Sum(nil)[:6])
	return m, nil
}

// readTexts returns the texts that scripts show: strings, or objects of plural
// forms.
func readTexts(files fs.FS, name string) (map[string]json.RawMessage, error) {
	b, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	texts := make(map[string]json.RawMessage)
	for key, text := range all {
		if short, ok := strings.CutPrefix(key, scriptTexts); ok {
			texts[short] = text
		}
	}
	return texts, nil
}

// newCatalogue makes the module of a language's texts. What is missing there is in
// English.
func newCatalogue(files fs.FS, name, language string, english map[string]json.RawMessage) ([]byte, error) {
	texts, err := readTexts(files, name)
	if err != nil {
		return nil, err
	}
	for key, text := range english {
		if _, ok := texts[key]; !ok {
			texts[key] = text
		}
	}
	b, err := json.Marshal(map[string]any{"language": language, "texts": texts})
	return fmt.Appendf(nil, "export default %s;\n", b), err
}

// path is where the languages' directories are.
func (m *modules) path() string { return m.prefix + m.version + "/" }

func (c *Console) serveModule(w http.ResponseWriter, r *http.Request) {
	b, ok := c.modules.files[strings.TrimPrefix(r.URL.Path, c.modules.path())]
	if !ok {
		c.pages.Error(w, r, http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Content-Length", fmt.Sprint(len(b)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(b) // the client went away; nobody is left to tell
}
