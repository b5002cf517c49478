// Package webtransport reaches a gateway in a way that looks like the web: a TLS
// connection that offers HTTP/2 and HTTP/1.1, and on it a stream that stays
// open, or a WebSocket (RFC 6455). What goes through it is the caller's: another
// TLS connection, to the same gateway, with the client's key. Whoever reads the
// outer one along can neither read nor use that.
package webtransport

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// DefaultPath is where gateways have the transport unless they are told
// otherwise.
const DefaultPath = "/.well-known/posthorn"

// Mode is how octets are carried.
type Mode uint8

const (
	// Auto offers both, takes what the server prefers, and when that does not
	// come through, a WebSocket on a second connection.
	Auto Mode = iota
	// WebSocket offers http/1.1 alone, as browsers do for a WebSocket.
	WebSocket
	// HTTP2 offers h2 alone.
	HTTP2
)

// Dialer dials. Its fields are set before use; the zero value but for
// Subprotocol works.
type Dialer struct {
	// TLSConfig is for the outer connection. ServerName is the dialled host
	// unless it is set; NextProtos are Mode's.
	TLSConfig *tls.Config
	// DialContext makes the connection below; nil: net.Dialer's.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Path is where the gateway has the transport; empty: DefaultPath.
	Path string
	// Subprotocol is what is carried: "imap" or "smtp".
	Subprotocol string
	Mode        Mode
	// Ping is after what silence a ping is sent; 0: 25 s; negative: never.
	Ping time.Duration
}

// ErrSubprotocol is that Dialer.Subprotocol is none that can be carried.
var ErrSubprotocol = errors.New("webtransport: subprotocol is neither imap nor smtp")

// ErrHandshake is a server's answer that opens no transport, though its status
// says so: somebody in between has changed it, or has made it up.
var ErrHandshake = errors.New("webtransport: answer is not that of a gateway")

// StatusError is an answer with another status than the one that opens a
// transport: there is none at that path, or somebody in between has answered.
type StatusError struct{ Code int }

func (e *StatusError) Error() string {
	return fmt.Sprintf("webtransport: server answered %d %s", e.Code, http.StatusText(e.Code))
}

const (
	protoHTTP1 = "http/1.1"
	protoHTTP2 = "h2"

	defaultPing = 25 * time.Second
	// patience is how long Auto waits for an answer on HTTP/2: some in between
	// want all of a request before they pass it on.
	patience = 5 * time.Second
)

// Dial opens a transport at a host, or a host and port; without a port it is
// 443. ctx is for that alone. A certificate that does not verify is a
// *tls.CertificateVerificationError, and what is no TLS at all a
// tls.RecordHeaderError.
func (d *Dialer) Dial(ctx context.Context, host string) (net.Conn, error) {
	path, err := d.path()
	if err != nil {
		return nil, err
	}
	t := target{Dialer: d, path: path, address: host, name: host}
	if name, _, err := net.SplitHostPort(host); err == nil {
		t.name = name
	} else {
		t.address = net.JoinHostPort(host, "443")
	}
	switch d.Mode {
	case WebSocket:
		return t.dial(ctx, protoHTTP1)
	case HTTP2:
		return t.dial(ctx, protoHTTP2)
	}
	first, cancel := context.WithTimeout(ctx, t.share(ctx))
	defer cancel()
	nc, err := t.dial(first, protoHTTP2, protoHTTP1)
	if err == nil || ctx.Err() != nil || !t.streamed {
		return nc, err
	}
	t.streamed = false
	nc, again := t.dial(ctx, protoHTTP1)
	if again != nil {
		return nil, errors.Join(err, again)
	}
	return nc, nil
}

// path is that of the subprotocol.
func (d *Dialer) path() (string, error) {
	base := cmp.Or(d.Path, DefaultPath)
	switch d.Subprotocol {
	case "imap":
		return base + "/imap", nil
	case "smtp":
		return base + "/submission", nil
	}
	return "", ErrSubprotocol
}

// target is one Dial.
type target struct {
	*Dialer
	address, name string
	path          string
	streamed      bool // HTTP/2 was what the server chose
}

// share is how much of the time there is the first way may take.
func (t *target) share(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(min(patience, time.Until(end)/2), 0)
	}
	return patience
}

// dial makes a connection with these protocols, and opens the transport on it
// in the way of the one that the server chooses.
func (t *target) dial(ctx context.Context, protos ...string) (net.Conn, error) {
	dial := t.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{}
	if t.TLSConfig != nil {
		config = t.TLSConfig.Clone()
	}
	config.ServerName, config.NextProtos = cmp.Or(config.ServerName, t.name), protos
	tc := outerClient(nc, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("webtransport: outer TLS: %w", err)
	}
	var opened net.Conn
	if t.streamed = tc.ConnectionState().NegotiatedProtocol == protoHTTP2; t.streamed {
		opened, err = t.openStream(ctx, tc)
	} else {
		opened, err = t.openWebSocket(ctx, tc)
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("webtransport: %w", context.Cause(ctx))
		}
		return nil, err
	}
	return opened, nil
}

// ping is Ping, with its default; zero: never.
func (d *Dialer) ping() time.Duration { return max(0, cmp.Or(d.Ping, defaultPing)) }
