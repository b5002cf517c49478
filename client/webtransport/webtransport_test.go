package webtransport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"posthorn/client/webtransport"
	"posthorn/loopback"
	"posthorn/mux/muxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const host = "mail.example.org"

// liar is a TLS server that answers every request with the same, whatever it
// was.
func liar(t *testing.T, answer string, protos ...string) *webtransport.Dialer {
	t.Helper()
	pair := muxtest.KeyPair(t, host)
	return dialer(t, pair, func(nc net.Conn) {
		tc := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: protos})
		defer tc.Close()
		b := make([]byte, 4096)
		if n, err := tc.Read(b); n == 0 || err != nil {
			return
		}
		io.WriteString(tc, strings.ReplaceAll(answer, "\n", "\r\n"))
		io.Copy(io.Discard, tc)
	})
}

// dialer dials a server that trusts pair.
func dialer(t *testing.T, pair tls.Certificate, serve func(net.Conn)) *webtransport.Dialer {
	t.Helper()
	addr := loopback.Serve(t, serve)
	d := trusting(t, pair)
	d.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	return d
}

// trusting trusts pair.
func trusting(t *testing.T, pair tls.Certificate) *webtransport.Dialer {
	t.Helper()
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &webtransport.Dialer{TLSConfig: &tls.Config{RootCAs: roots}, Subprotocol: "imap"}
}

func TestLies(t *testing.T) {
	const switched = "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n"
	for name, tt := range map[string]struct {
		answer string
		status int // of a *StatusError; 0: ErrHandshake
	}{
		"block page":         {"HTTP/1.1 200 OK\nContent-Length: 5\n\nnever", 200},
		"portal":             {"HTTP/1.1 302 Found\nLocation: http://portal.example/\nContent-Length: 0\n\n", 302},
		"proxy":              {"HTTP/1.1 407 Proxy Authentication Required\nContent-Length: 0\n\n", 407},
		"no transport":       {"HTTP/1.1 404 Not Found\nContent-Length: 0\n\n", 404},
		"wrong accept":       {switched + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nSec-WebSocket-Protocol: imap\n\n", 0},
		"no accept":          {switched + "Sec-WebSocket-Protocol: imap\n\n", 0},
		"no upgrade":         {"HTTP/1.1 101 Switching Protocols\n\n", 0},
		"no HTTP":            {"* OK IMAP4rev1 ready\n", 0},
		"nothing":            {"", 0},
		"endless header":     {"HTTP/1.1 101 Switching Protocols\nX: " + strings.Repeat("x", 100<<10), 0},
		"early hints, twice": {"HTTP/1.1 103 Early Hints\n\nHTTP/1.1 200 OK\n\n", 103},
	} {
		t.Run(name, func(t *testing.T) {
			d := liar(t, tt.answer, "http/1.1")
			limit := 20 * time.Second // of which a busy machine may need some
			if name == "nothing" {
				limit = 500 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			nc, err := d.Dial(ctx, host)
			var status *webtransport.StatusError
			switch {
			case err == nil:
				nc.Close()
				t.Fatal("believed")
			case name == "nothing":
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
			case tt.status == 0 && !errors.Is(err, webtransport.ErrHandshake),
				tt.status != 0 && (!errors.As(err, &status) || status.Code != tt.status):
				t.Errorf("%v", err)
			}
		})
	}
}

// A certificate that does not verify ends it, whatever answers behind; so does
// what is no TLS.
func TestCertificate(t *testing.T) {
	d := liar(t, "", "h2", "http/1.1")
	d.TLSConfig = &tls.Config{}
	var wrong *tls.CertificateVerificationError
	if _, err := d.Dial(t.Context(), host); !errors.As(err, &wrong) {
		t.Errorf("a stranger's: %v", err)
	}
	d = liar(t, "", "h2", "http/1.1")
	if _, err := d.Dial(t.Context(), "other.example.org"); !errors.As(err, &wrong) {
		t.Errorf("another name's: %v", err)
	}
	d = dialer(t, muxtest.KeyPair(t, host), func(nc net.Conn) {
		io.WriteString(nc, "HTTP/1.1 403 Forbidden\r\n\r\n")
		io.Copy(io.Discard, nc)
	})
	var garbage tls.RecordHeaderError
	if _, err := d.Dial(t.Context(), host); !errors.As(err, &garbage) {
		t.Errorf("no TLS: %v", err)
	}
}

// When the stream on HTTP/2 does not come through, a WebSocket is tried; both
// errors are told when that does not either.
func TestSecondWay(t *testing.T) {
	pair := muxtest.KeyPair(t, host)
	var mu sync.Mutex
	var offers [][]string
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusNotFound
		if r.ProtoMajor == 2 {
			status = http.StatusMethodNotAllowed
		}
		http.Error(w, "", status)
	})}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	server.Protocols = &protocols
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			offers = append(offers, h.SupportedProtos)
			return nil, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { server.Serve(ln); close(served) }()
	defer func() { server.Close(); <-served }()
	d := trusting(t, pair)
	d.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, ln.Addr().String())
	}
	_, err = d.Dial(t.Context(), host)
	if text := err.Error(); !strings.Contains(text, "405") || !strings.Contains(text, "404") {
		t.Errorf("%v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(offers) != 2 || strings.Join(offers[0], " ") != "h2 http/1.1" || strings.Join(offers[1], " ") != "http/1.1" {
		t.Errorf("offered %q", offers)
	}
}

func TestSubprotocol(t *testing.T) {
	d := webtransport.Dialer{Subprotocol: "pop3"}
	if _, err := d.Dial(t.Context(), host); !errors.Is(err, webtransport.ErrSubprotocol) {
		t.Error(err)
	}
}
