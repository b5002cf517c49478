package webtransport

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"posthorn/webstream"
)

// maxAnswer bounds the header of an answer.
const maxAnswer = 64 << 10

var longAgo = time.Unix(1, 0)

// openWebSocket makes a WebSocket of a connection (RFC 6455 section 4.1).
func (t *target) openWebSocket(ctx context.Context, tc *outer) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { tc.SetDeadline(longAgo) })
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	req := &http.Request{
		Method: http.MethodGet, Host: t.host(), URL: &url.URL{Path: t.path}, Header: http.Header{
			"Upgrade":                {"websocket"},
			"Connection":             {"Upgrade"},
			"Sec-Websocket-Key":      {key},
			"Sec-Websocket-Version":  {"13"},
			"Sec-Websocket-Protocol": {t.Subprotocol},
		},
	}
	if err := req.Write(tc); err != nil {
		stop()
		return nil, err
	}
	early, err := t.readAnswer(tc, req, webstream.AcceptKey(key))
	if !stop() {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	ws := webstream.Client(&prefixed{Conn: tc, early: early})
	ws.KeepAlive(t.ping())
	return ws, nil
}

// readAnswer reads the answer to an upgrade. It returns what came behind that.
func (t *target) readAnswer(tc net.Conn, req *http.Request, accept string) (early []byte, err error) {
	br := bufio.NewReader(&io.LimitedReader{R: tc, N: maxAnswer})
	res, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	h := res.Header
	switch {
	case res.StatusCode != http.StatusSwitchingProtocols:
		return nil, &StatusError{res.StatusCode}
	case !strings.EqualFold(h.Get("Upgrade"), "websocket"), !strings.EqualFold(h.Get("Connection"), "Upgrade"):
		err = errors.New("no upgrade")
	case h.Get("Sec-Websocket-Accept") != accept:
		err = errors.New("wrong Sec-WebSocket-Accept")
	case h.Get("Sec-Websocket-Protocol") != t.Subprotocol:
		err = errors.New("wrong subprotocol")
	case h.Get("Sec-Websocket-Extensions") != "":
		err = errors.New("extensions")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	early, _ = br.Peek(br.Buffered())
	return bytes.Clone(early), nil
}

// host is the Host of requests.
func (t *target) host() string {
	if host, port, err := net.SplitHostPort(t.address); err == nil && port == "443" {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return t.address
}

// prefixed is a connection that some has been read of.
type prefixed struct {
	net.Conn
	early []byte
}

func (c *prefixed) Read(b []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.early)
	c.early = c.early[n:]
	return n, nil
}
