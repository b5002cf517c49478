package https

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"slices"
)

// Endpoint is a way in, as the page shows it.
type Endpoint struct {
	Protocol string // such as "IMAP"
	Host     string
	Port     int
	Security string // such as "TLS" or "STARTTLS"
}

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// protocol is the ways in for one purpose.
type protocol struct {
	Name      string
	Endpoints []Endpoint
}

// byProtocol groups endpoints, in the order in which they come.
func byProtocol(endpoints []Endpoint) (all []protocol) {
	for _, e := range endpoints {
		i := slices.IndexFunc(all, func(p protocol) bool { return p.Name == e.Protocol })
		if i < 0 {
			i = len(all)
			all = append(all, protocol{Name: e.Protocol})
		}
		all[i].Endpoints = append(all[i].Endpoints, e)
	}
	return all
}

// page serves the same bytes to everybody.
func page(endpoints []Endpoint) http.Handler {
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, struct {
		Style     template.CSS
		Protocols []protocol
	}{template.CSS(pageCSS), byProtocol(endpoints)})
	if err != nil {
		panic(err) // the template is fixed, and the buffer takes everything
	}
	hash := sha256.Sum256([]byte(pageCSS))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		w.Write(b.Bytes())
	})
}
