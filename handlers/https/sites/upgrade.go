package sites

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"posthorn/splice"
)

// upgrade returns the protocol that a request wants to switch to (RFC 9110
// section 7.8); empty when there is none, or the site is not to hear of it. A
// server may ignore an Upgrade, and a body behind one is a question of who
// reads it.
func upgrade(r *http.Request) string {
	if r.ProtoMajor != 1 || !r.ProtoAtLeast(1, 1) || r.ContentLength != 0 || len(r.Header["Upgrade"]) != 1 ||
		!httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade") {
		return ""
	}
	p := r.Header["Upgrade"][0]
	if strings.Trim(p, protocolChars) != "" { // a list, or no protocol at all
		return ""
	}
	words := strings.Fields(strings.ToLower(p))
	for _, word := range words {
		switch name, _, _ := strings.Cut(word, "/"); {
		case name == "h2c", name == "tls", name == "http" && len(words) == 1: // what the gateway itself speaks
			return ""
		}
	}
	return p
}

// protocolChars are those of a protocol's name and version: tchar, and a slash
// (RFC 9110 sections 5.6.2 and 7.8). Besides, there are spaces in the one that
// iroh's relays go by, "iroh derp http".
const protocolChars = "!#$%&'*+-.^_`|~/ 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

var errSwitched = errors.New("https: the site switched to another protocol")

// agreed reports whether the site switches to what the client wants.
func agreed(res *http.Response, protocol string) bool {
	return protocol != "" && strings.EqualFold(res.Header.Get("Upgrade"), protocol) &&
		httpguts.HeaderValuesContainsToken(res.Header["Connection"], "Upgrade")
}

// join takes the client's connection from net/http and joins it with the
// site's, until both have ended or the gateway drains. That goes on when
// everything here has returned: one of these may be quiet for days.
func (s *proxy) join(a *answer, l *line, res *http.Response, protocol string) (joined bool) {
	if !agreed(res, protocol) {
		s.fail(a, a.r, errSwitched)
		return false
	}
	_, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	res.Body = nil
	if res.Write(rw) != nil || rw.Flush() != nil {
		return false
	}
	conn, leave := a.door.Conn, a.leave
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	conn.Unread(bytes.Clone(early))
	head, _ := l.br.Peek(l.br.Buffered())
	link := splice.Link{Client: conn, Server: l.Conn, Head: bytes.Clone(head)}
	a.door.Take(func(ctx context.Context, done func()) {
		link.Start(ctx, func(err error) {
			defer done()
			defer leave()
			if p, ok := errors.AsType[*splice.PanicError](err); ok {
				conn.Panicked(p.Value, p.Stack())
			}
		})
	})
	a.leave = nil
	return true
}
