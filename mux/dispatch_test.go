package mux_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"posthorn/alpn"
)

const (
	alertNoApplicationProtocol = tls.AlertError(120)
	alertUnrecognizedName      = tls.AlertError(112)
)

// gotAlert reports whether err is an alert from the server. crypto/tls has no
// exported type for these, so that the text has to do.
func gotAlert(err error, want tls.AlertError) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && op.Err.Error() == want.Error()
}

func TestDispatch(t *testing.T) {
	b := start(t)
	addr := map[alpn.Port]string{}
	for _, p := range []alpn.Port{alpn.Shared, alpn.IMAPS, alpn.Submissions} {
		addr[p] = b.listen(p)
	}
	type protos = []string
	for _, tt := range []struct {
		port  alpn.Port
		offer protos
		name  string
		first string // what the client says before it hears anything
		want  string // the handler; empty: alert
		alert tls.AlertError
	}{
		{alpn.Shared, protos{"imap"}, servedName, "", "imap", 0},
		{alpn.Shared, protos{"smtp"}, servedName, "", "smtp", 0},
		{alpn.Shared, protos{"submission"}, servedName, "", "smtp", 0},
		{alpn.Shared, protos{"http/1.1"}, servedName, "", "http", 0},
		{alpn.Shared, protos{"h2", "http/1.1"}, servedName, "", "http", 0},
		{alpn.Shared, protos{"pop3"}, servedName, "", "", alertNoApplicationProtocol},
		{alpn.Shared, protos{"acme-tls/1"}, servedName, "", "", alertNoApplicationProtocol},
		{alpn.Shared, nil, "IMAP.example.org", "", "imap", 0},
		{alpn.Shared, nil, "smtp.example.org", "", "smtp", 0},
		{alpn.Shared, nil, servedName, "EHLO x", "smtp", 0},
		{alpn.Shared, nil, servedName, "a1 NOOP", "imap", 0},
		{alpn.Shared, nil, servedName, "GET / HTTP/1.1", "http", 0},
		{alpn.Shared, nil, "127.0.0.1", "GET / HTTP/1.1", "http", 0}, // crypto/tls sends no SNI then
		{alpn.Shared, protos{"h2"}, "imap.example.org", "a1 NOOP", "http", 0},
		{alpn.Shared, protos{"imap"}, "evil.test", "", "", alertUnrecognizedName},
		{alpn.Shared, nil, "evil.test", "", "", alertUnrecognizedName},

		{alpn.IMAPS, nil, servedName, "", "imap", 0},
		{alpn.IMAPS, protos{"imap"}, servedName, "", "imap", 0},
		{alpn.IMAPS, protos{"smtp"}, servedName, "", "", alertNoApplicationProtocol},
		{alpn.IMAPS, protos{"http/1.1"}, servedName, "", "", alertNoApplicationProtocol},
		{alpn.Submissions, nil, "imap.example.org", "", "smtp", 0},
		{alpn.Submissions, protos{"imap"}, servedName, "", "", alertNoApplicationProtocol},
		{alpn.Submissions, protos{"h2", "http/1.1"}, servedName, "", "", alertNoApplicationProtocol},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			cc := clientConfig(tt.offer...)
			cc.ServerName, cc.MaxVersion = tt.name, version
			tc := tls.Client(dial(t, addr[tt.port]), cc)
			tc.SetDeadline(time.Now().Add(5 * time.Second))
			err := tc.Handshake()
			if tt.want == "" {
				if !gotAlert(err, tt.alert) {
					t.Errorf("port %d, %q, %s: %v; want alert %d", tt.port, tt.offer, tt.name, err, tt.alert)
				}
				continue
			}
			if err != nil {
				t.Errorf("port %d, %q, %s: %v", tt.port, tt.offer, tt.name, err)
				continue
			}
			c := newClient(t, tc)
			if tt.first != "" {
				c.send(tt.first)
			}
			c.want("hello " + tt.want)
			if tt.first != "" {
				c.want(tt.want + " " + tt.first + " key=")
			}
			if got := tc.ConnectionState().NegotiatedProtocol; len(tt.offer) == 0 && got != "" {
				t.Errorf("port %d selected %q, which was not offered", tt.port, got)
			}
			c.Close()
		}
	}
}

// slow sends what it is given one byte at a time.
type slow struct{ net.Conn }

func (s slow) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := s.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func TestByteAtATime(t *testing.T) {
	b := start(t)
	for _, tt := range []struct {
		offer []string
		first string
		want  string
	}{
		{[]string{"imap"}, "a1 NOOP", "imap"},
		{nil, "a1 NOOP", "imap"},
		{nil, "EHLO x", "smtp"},
		{nil, "PATCH / HTTP/1.1", "http"},
	} {
		tc := tls.Client(slow{dial(t, b.listen(alpn.Shared))}, clientConfig(tt.offer...))
		c := newClient(t, tc)
		for _, r := range tt.first + "\r\n" {
			if _, err := io.WriteString(tc, string(r)); err != nil {
				t.Fatal(err)
			}
		}
		c.want("hello " + tt.want)
		c.want(tt.want + " " + tt.first + " key=")
	}
}
