package sites

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// exchange passes on a request without a body, and the response to it. They are
// most of all, and http.Transport's two goroutines for a connection cost them
// more than all the rest. If the client wants to switch to a protocol, and the
// site agrees, the two connections are joined.
func (s *proxy) exchange(a *answer, protocol string) {
	ctx := a.r.Context()
	l, res, stop, err := s.ask(ctx, a, protocol)
	if err != nil {
		s.fail(a, a.r, err)
		return
	}
	keepCookies(res.Header)
	done, joined := false, false
	defer func() {
		switch stopped := stop(); {
		case joined:
		case stopped && done && !res.Close && l.br.Buffered() == 0:
			s.lines.put(l)
		default:
			l.Close()
		}
	}()
	if res.StatusCode == http.StatusSwitchingProtocols {
		stop() // the client's connection is not net/http's for long
		joined = s.join(a, l, res, protocol)
		return
	}
	s.relay(a, res)
	done = true
}

// ask sends the request and returns the head of the response. It tries again if
// the site has closed an idle line in the same moment. Until stop is called, the
// line breaks when the client goes.
func (s *proxy) ask(ctx context.Context, a *answer, protocol string) (l *line, res *http.Response, stop func() bool, err error) {
	buf := heads.Get().(*[]byte)
	defer heads.Put(buf)
	*buf = appendRequest((*buf)[:0], a.r, protocol)
	l, err = s.line(ctx)
	for err == nil {
		this := l // which may be another one, or none, by the time that this runs
		stop = context.AfterFunc(ctx, func() { _ = this.SetDeadline(longAgo) })
		if res, err = s.try(l, a, *buf); err == nil {
			return l, res, stop, nil
		}
		again := l.used && !isTimeout(err) && ctx.Err() == nil && repeatable(a.r.Method)
		stop()
		l.Close()
		if !again {
			break
		}
		l, err = s.newLine(ctx)
	}
	return nil, nil, nil, err
}

// heads are buffers for the heads of requests.
var heads = sync.Pool{New: func() any { return new([]byte) }}

// try sends a request on a line and reads the head of the response.
func (s *proxy) try(l *line, a *answer, request []byte) (*http.Response, error) {
	if err := l.SetDeadline(time.Now().Add(s.answerTimeout)); err != nil {
		return nil, err
	}
	if _, err := l.Write(request); err != nil {
		return nil, err
	}
	for {
		res, err := l.readHead(a.r)
		switch {
		case err != nil:
			return nil, err
		case res.StatusCode >= 200, res.StatusCode == http.StatusSwitchingProtocols:
			// The client may have gone, and the deadline of that been undone.
			return res, cmp.Or(l.SetDeadline(time.Time{}), a.r.Context().Err())
		}
		clearHop(res.Header)
		copyHeader(a.Header(), res.Header)
		a.WriteHeader(res.StatusCode)
		clear(a.Header())
	}
}

// repeatable reports whether a request may be sent again (RFC 9110 section
// 9.2.2).
func repeatable(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// relay passes a response on.
func (s *proxy) relay(a *answer, res *http.Response) {
	h := a.Header()
	clearHop(res.Header)
	copyHeader(h, res.Header)
	announced := make(map[string]bool, len(res.Trailer))
	for name := range res.Trailer {
		announced[name] = true
		h.Add("Trailer", name)
	}
	a.WriteHeader(res.StatusCode)
	if err := s.copy(a, res.Body); err != nil {
		if a.r.Context().Err() == nil {
			s.outage.note(err)
		}
		panic(http.ErrAbortHandler) // so that it does not look complete
	}
	if len(res.Trailer) > 0 {
		_ = a.FlushError() // or a short body would get a length
	}
	for name, values := range res.Trailer {
		if !announced[name] {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// copy copies the body of a response. The error is that of reading it; when
// the client is gone, it is http.ErrAbortHandler, in a panic.
func (s *proxy) copy(a *answer, body io.Reader) error {
	if body == http.NoBody {
		return nil
	}
	buf := s.buffers.Get()
	defer s.buffers.Put(buf)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, err := a.Write(buf[:n]); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		switch err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// appendRequest appends the head of the request that the site gets. net/http
// has seen to it that no name or value holds a line break.
func appendRequest(b []byte, r *http.Request, protocol string) []byte {
	b = append(append(b, r.Method...), ' ')
	b = append(append(b, r.URL.RequestURI()...), " HTTP/1.1\r\n"...)
	b = appendField(b, "Host", r.Host)
	connection := r.Header["Connection"]
	for name, values := range r.Header {
		if hop(name) || forged(name) || len(connection) > 0 && httpguts.HeaderValuesContainsToken(connection, name) {
			continue
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	b = appendField(b, "X-Forwarded-For", client)
	b = appendField(b, "X-Forwarded-Host", r.Host)
	b = appendField(b, "X-Forwarded-Proto", "https")
	if httpguts.HeaderValuesContainsToken(r.Header["Te"], "trailers") {
		b = appendField(b, "Te", "trailers")
	}
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch: // RFC 9110 section 8.6
		b = appendField(b, "Content-Length", "0")
	}
	if protocol != "" {
		b = appendField(b, "Connection", "Upgrade")
		b = appendField(b, "Upgrade", protocol)
	}
	return append(b, "\r\n"...)
}

func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...)
}

// hop reports whether a header field belongs to one connection alone (RFC 9110
// section 7.6.1), or is what the gateway writes by itself.
func hop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length", "Host", "Expect":
		return true
	}
	return false
}

// clearHop removes what concerns the connection to the site alone.
func clearHop(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for name := range h {
		if name != "Content-Length" && hop(name) {
			delete(h, name)
		}
	}
}

func copyHeader(to, from http.Header) {
	for name, values := range from {
		to[name] = append(to[name], values...)
	}
}
