package https

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
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

// serveUpgrade passes on a request that wants to switch protocols, over a
// connection of its own. If the site agrees, the two connections are joined.
func (s *Site) serveUpgrade(a *answer, protocol string) {
	ctx, cancel := context.WithTimeout(a.r.Context(), s.answerTimeout())
	defer cancel()
	conn, err := s.dial(ctx, "tcp", "")
	if err != nil {
		s.fail(a, a.r, err)
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo) })
	head := &io.LimitedReader{R: conn, N: maxAnswerHeader}
	br := bufio.NewReader(head)
	res, err := ask(conn, br, s.upgrading(a.r, protocol))
	switch stopped := stop(); {
	case err == nil && !stopped:
		err = ctx.Err()
	case err == nil && res.StatusCode == http.StatusSwitchingProtocols && !agreed(res, protocol):
		err = errSwitched
	}
	if err != nil {
		s.fail(a, a.r, err)
		return
	}
	head.N = 1<<63 - 1
	if res.StatusCode == http.StatusSwitchingProtocols {
		s.join(a, conn, br, res)
		return
	}
	s.decline(a, conn, res)
}

// upgrading is the request that the site gets.
func (s *Site) upgrading(r *http.Request, protocol string) *http.Request {
	out := r.Clone(r.Context())
	out.Body, out.Close = nil, false
	clearHop(out.Header)
	out.Header.Set("Connection", "Upgrade")
	out.Header.Set("Upgrade", protocol)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // or net/http would name itself
	}
	s.rewrite(&httputil.ProxyRequest{In: r, Out: out})
	return out
}

// ask sends a request without a body and reads the head of the response.
func ask(conn net.Conn, br *bufio.Reader, r *http.Request) (*http.Response, error) {
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	for {
		res, err := http.ReadResponse(br, r)
		if err != nil || res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, err
		}
	}
}

// agreed reports whether the site switches to what the client wants.
func agreed(res *http.Response, protocol string) bool {
	return strings.EqualFold(res.Header.Get("Upgrade"), protocol) &&
		httpguts.HeaderValuesContainsToken(res.Header["Connection"], "Upgrade")
}

// join takes the client's connection from net/http and joins it with the
// site's, until both have ended or the gateway drains.
func (s *Site) join(a *answer, conn net.Conn, br *bufio.Reader, res *http.Response) {
	_, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	res.Body = nil
	if res.Write(rw) != nil || rw.Flush() != nil {
		return
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	a.front.conn.Unread(bytes.Clone(early))
	head, _ := br.Peek(br.Buffered())
	_ = splice.Run(a.front.ctx, a.front.conn, conn, bytes.Clone(head))
}

// decline passes on a response that is not the switch that was asked for.
func (s *Site) decline(a *answer, conn net.Conn, res *http.Response) {
	defer context.AfterFunc(a.r.Context(), func() { conn.Close() })()
	clearHop(res.Header)
	for name, values := range res.Header {
		a.Header()[name] = values
	}
	a.WriteHeader(res.StatusCode)
	if _, err := io.Copy(a, res.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// clearHop removes what concerns one connection alone (RFC 9110 section 7.6.1).
func clearHop(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate",
		"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		h.Del(name)
	}
}
