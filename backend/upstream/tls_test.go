package upstream_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthorn/backend/upstream"
	"posthorn/socket"
)

func TestTrustConfigRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	_, pin := newAuthority(t).issue(time.Now(), "a")
	for name, c := range map[string]struct {
		file string
		pins []string
	}{
		"no file":      {file: filepath.Join(dir, "none")},
		"empty":        {file: write("empty", "")},
		"no PEM":       {file: write("text", "certificate")},
		"a key":        {file: write("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")},
		"broken":       {file: write("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")},
		"pin":          {pins: []string{"SHA256:abc"}},
		"empty pin":    {pins: []string{""}},
		"good and bad": {pins: []string{pin, strings.ToLower(pin)}},
	} {
		if got, err := upstream.TrustConfig(c.file, c.pins, ""); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// starttls is a server's side of a STARTTLS of our own making.
func starttls(cert tls.Certificate, extra string) func(net.Conn) {
	rest := secured(cert, says(greeting))
	return func(c net.Conn) {
		_, _ = io.WriteString(c, "* OK hello\r\n")
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "STARTTLS\r\n" {
			return
		}
		_, _ = io.WriteString(c, "OK begin\r\n"+extra)
		rest(c)
	}
}

// upgraded is the Config.Open for that.
func upgraded(ctx context.Context, c *upstream.Conn) error {
	if err := greeted(ctx, c); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "STARTTLS\r\n"); err != nil {
		return err
	}
	if line, err := c.ReadLine(100); err != nil || line != "OK begin" {
		return fmt.Errorf("STARTTLS: %q, %w", line, err)
	}
	if err := c.StartTLS(ctx); err != nil {
		return err
	}
	return greeted(ctx, c)
}

// TestTLS dials servers with certificates of all kinds, with TLS at once and
// with STARTTLS. Each is dialled twice, so that TLS sessions are taken up.
func TestTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	future, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	good, goodPin := ca.issue(future, "mail.example.org", "127.0.0.1")
	expired, expiredPin := ca.issue(past, "mail.example.org", "127.0.0.1")
	elsewhere, _ := ca.issue(future, "192.0.2.1")
	_, otherPin := other.issue(future, "a")
	for name, c := range map[string]struct {
		cert   tls.Certificate
		config *tls.Config
		want   func(error) bool // nil: none
	}{
		"ca, address":         {good, trusting(t, ca.file, nil, ""), nil},
		"ca, name":            {good, trusting(t, ca.file, nil, "mail.example.org"), nil},
		"ca, other name":      {good, trusting(t, ca.file, nil, "mail.example.com"), is[x509.HostnameError]},
		"ca, expired":         {expired, trusting(t, ca.file, nil, ""), is[x509.CertificateInvalidError]},
		"other ca":            {good, trusting(t, other.file, nil, ""), is[x509.UnknownAuthorityError]},
		"system's cas":        {good, trusting(t, "", nil, ""), is[x509.UnknownAuthorityError]},
		"no template":         {good, nil, is[x509.UnknownAuthorityError]},
		"pin":                 {good, trusting(t, "", []string{goodPin}, "whatever"), nil},
		"one of the pins":     {good, trusting(t, "", []string{otherPin, goodPin}, ""), nil},
		"pin, expired":        {expired, trusting(t, "", []string{expiredPin}, "whatever"), nil},
		"other pin":           {good, trusting(t, "", []string{otherPin}, ""), notPinned},
		"other pin or ca":     {good, trusting(t, ca.file, []string{otherPin}, ""), nil},
		"pin or other ca":     {good, trusting(t, other.file, []string{goodPin}, ""), nil},
		"neither pin nor ca":  {good, trusting(t, other.file, []string{otherPin}, ""), notPinned},
		"ca, but not by name": {good, trusting(t, ca.file, []string{otherPin}, "mail.example.com"), is[x509.HostnameError]},
		"ca, but elsewhere":   {elsewhere, trusting(t, ca.file, []string{otherPin}, ""), is[x509.HostnameError]},
		"ca, but expired":     {expired, trusting(t, ca.file, []string{otherPin}, ""), is[x509.CertificateInvalidError]},
	} {
		for security, p := range map[string]*upstream.Pool{
			"implicit": newPool(t, upstream.Config{
				Addresses: []string{serve(t, secured(c.cert, says(greeting))).address}, TLS: c.config, Security: upstream.ImplicitTLS,
			}),
			"starttls": newPool(t, upstream.Config{
				Addresses: []string{serve(t, starttls(c.cert, "")).address}, TLS: c.config, Security: upstream.StartTLS, Open: upgraded,
			}),
		} {
			t.Run(name+"/"+security, func(t *testing.T) {
				for round := range 2 {
					conn, err := p.Dial(context.Background(), upstream.Header{})
					if c.want == nil {
						// crypto/tls takes up no session with an expired certificate
						checkSecured(t, conn, err, round > 0 && time.Now().Before(c.cert.Leaf.NotAfter))
						continue
					}
					if !errors.Is(err, upstream.ErrUnavailable) || !c.want(err) {
						t.Errorf("error %v", err)
					}
					if s := p.Status()[0]; s.Up || s.Error == "" || s.Conns != 0 {
						t.Errorf("Status: %+v", s)
					}
				}
			})
		}
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func notPinned(err error) bool { return errors.Is(err, upstream.ErrNotPinned) }

func checkSecured(t *testing.T, c *upstream.Conn, err error, resumed bool) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tc, ok := c.Bare().(*tls.Conn)
	if !ok {
		t.Fatalf("Conn is a %T", c.Bare())
	}
	if s := tc.ConnectionState(); s.Version < tls.VersionTLS12 || s.DidResume != resumed {
		t.Errorf("%s, resumed: %v", tls.VersionName(s.Version), s.DidResume)
	}
	if _, ok := socket.Of(tc.NetConn()); !ok {
		t.Errorf("TLS is on a %T", tc.NetConn())
	}
}

// TestPinOnResumption lets a server take up a session of another one, whose
// key was pinned: what is pinned now counts.
func TestPinOnResumption(t *testing.T) {
	ca := newAuthority(t)
	cert, pin := ca.issue(time.Now().Add(time.Hour), "localhost")
	_, other := ca.issue(time.Now().Add(time.Hour), "localhost")
	s := serve(t, secured(cert, says(greeting)))
	config := trusting(t, "", []string{pin}, "localhost")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	p := newPool(t, upstream.Config{Addresses: []string{s.address}, TLS: config, Security: upstream.ImplicitTLS})
	for round := range 2 {
		c, err := p.Dial(context.Background(), upstream.Header{})
		checkSecured(t, c, err, round > 0)
	}
	repinned := trusting(t, "", []string{other}, "localhost")
	repinned.ClientSessionCache = config.ClientSessionCache
	q := newPool(t, upstream.Config{Addresses: []string{s.address}, TLS: repinned, Security: upstream.ImplicitTLS})
	if _, err := q.Dial(context.Background(), upstream.Header{}); !errors.Is(err, upstream.ErrNotPinned) {
		t.Errorf("error %v", err)
	}
}

// TestOldTLS has a server that knows TLS 1.1 only.
func TestOldTLS(t *testing.T) {
	cert, pin := newAuthority(t).issue(time.Now().Add(time.Hour), "localhost")
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	s := serve(t, func(c net.Conn) { says(greeting)(tls.Server(c, config)) })
	template := trusting(t, "", []string{pin}, "")
	template.MinVersion = tls.VersionTLS10
	p := newPool(t, upstream.Config{Addresses: []string{s.address}, TLS: template, Security: upstream.ImplicitTLS})
	if _, err := p.Dial(context.Background(), upstream.Header{}); !errors.Is(err, upstream.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

// TestCleartextBeforeTLS has somebody on the way put in an answer that is to be
// read after the handshake.
func TestCleartextBeforeTLS(t *testing.T) {
	cert, pin := newAuthority(t).issue(time.Now().Add(time.Hour), "localhost")
	s := serve(t, starttls(cert, greeting))
	p := newPool(t, upstream.Config{
		Addresses: []string{s.address}, TLS: trusting(t, "", []string{pin}, ""), Security: upstream.StartTLS, Open: upgraded,
	})
	if _, err := p.Dial(context.Background(), upstream.Header{}); !errors.Is(err, upstream.ErrCleartext) {
		t.Errorf("error %v", err)
	}
}

// TestNoTLSInHandshake has servers that are silent or speak something else when
// TLS is to begin.
func TestNoTLSInHandshake(t *testing.T) {
	_, pin := newAuthority(t).issue(time.Now().Add(time.Hour), "localhost")
	for name, handle := range map[string]func(net.Conn){
		"silent":    says(""),
		"cleartext": says("* OK IMAP4rev1 ready, no TLS here, this is just a greeting\r\n"),
		"garbage":   says(strings.Repeat("\x16\x03\x03\x40\x00", 5000)),
		"endless":   endless,
		"closes":    func(net.Conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, upstream.Config{
				Addresses: []string{serve(t, handle).address}, Timeout: 200 * time.Millisecond,
				TLS: trusting(t, "", []string{pin}, ""), Security: upstream.ImplicitTLS,
			})
			began := time.Now()
			_, err := p.Dial(context.Background(), upstream.Header{})
			if took := time.Since(began); !errors.Is(err, upstream.ErrUnavailable) || took > 2*time.Second {
				t.Errorf("after %v: %v", took, err)
			}
		})
	}
}

func TestStartTLSOutOfPlace(t *testing.T) {
	cert, pin := newAuthority(t).issue(time.Now().Add(time.Hour), "localhost")
	plain := newPool(t, upstream.Config{Addresses: []string{serve(t, says(greeting)).address}})
	if err := dial(t, plain, upstream.Header{}).StartTLS(context.Background()); err == nil {
		t.Error("TLS to a server that is configured without")
	}
	secure := newPool(t, upstream.Config{
		Addresses: []string{serve(t, secured(cert, says(greeting))).address},
		TLS:       trusting(t, "", []string{pin}, ""), Security: upstream.ImplicitTLS,
	})
	if err := dial(t, secure, upstream.Header{}).StartTLS(context.Background()); err == nil {
		t.Error("TLS twice")
	}
}
