package pages

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// assets are files that pages refer to. Each is served under a name that tells
// its content, so browsers keep it for good and never show an old one.
type assets struct {
	prefix    string
	addresses map[string]string // by name
	files     map[string]asset  // by name with hash
}

type asset struct {
	content     string
	contentType string
}

func newAssets(prefix string) *assets {
	return &assets{prefix: prefix, addresses: make(map[string]string), files: make(map[string]asset)}
}

// add takes the files in assets/.
func (a *assets) add(files fs.FS) error {
	names, err := fs.Glob(files, "assets/*")
	if err != nil {
		return err
	}
	for _, n := range names {
		b, err := fs.ReadFile(files, n)
		if err != nil {
			return err
		}
		name := path.Base(n)
		if _, taken := a.addresses[name]; taken {
			return fmt.Errorf("there is an asset %s already", name)
		}
		contentType, err := typeOf(name)
		if err != nil {
			return err
		}
		hash := sha256.Sum256(b)
		ext := path.Ext(name)
		hashed := strings.TrimSuffix(name, ext) + "-" + hex.EncodeToString(hash[:6]) + ext
		a.addresses[name] = a.prefix + hashed
		a.files[hashed] = asset{string(b), contentType}
	}
	return nil
}

// types are those of assets. What the machine's own table says does not count.
var types = map[string]string{
	".css":   "text/css",
	".js":    "text/javascript",
	".svg":   "image/svg+xml",
	".png":   "image/png",
	".json":  "application/json",
	".woff2": "font/woff2",
	".txt":   "text/plain",
}

func typeOf(name string) (string, error) {
	t := types[path.Ext(name)]
	if t == "" {
		return "", fmt.Errorf("asset %s: of no type that is served", name)
	}
	if strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "xml") {
		t = mime.FormatMediaType(t, map[string]string{"charset": "utf-8"})
	}
	return t, nil
}

// address returns where an asset is.
func (a *assets) address(name string) (string, error) {
	address, ok := a.addresses[name]
	if !ok {
		return "", fmt.Errorf("there is no asset %q", name)
	}
	return address, nil
}

// Assets serves what pages refer to, for GET under Config.Assets.
func (p *Pages) Assets() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := p.assets.files[strings.TrimPrefix(r.URL.Path, p.assets.prefix)]
		if !ok {
			p.Error(w, r, http.StatusNotFound)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.contentType)
		h.Set("Content-Length", fmt.Sprint(len(f.content)))
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		_, _ = w.Write([]byte(f.content)) // the client went away; nobody is left to tell
	})
}

// AssetPattern is where Assets is to be mounted.
func (p *Pages) AssetPattern() string { return "GET " + p.assets.prefix }
