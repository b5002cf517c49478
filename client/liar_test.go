package client_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/client"
	"posthorn/client/clienttest"
)

// liar is a server with a valid certificate, and no other virtues.
func liar(ca *clienttest.Authority, ask bool, lie func(c *tls.Conn)) func(net.Conn) {
	config := &tls.Config{Certificates: []tls.Certificate{ca.Issue(host)}, NextProtos: []string{"imap", "smtp"}}
	if ask {
		config.ClientAuth = tls.RequestClientCert
	}
	return func(nc net.Conn) {
		c := tls.Server(nc, config)
		if c.Handshake() == nil {
			lie(c)
		}
		c.Close()
	}
}

// impostor stands at every address, in memory. It waits for the client to be
// done with each connection.
func impostor(t *testing.T, serve func(net.Conn)) func(*client.Config) {
	t.Helper()
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	return func(c *client.Config) {
		c.Timeout, c.LoginTimeout = time.Second, time.Second
		c.DialContext = func(context.Context, string, string) (net.Conn, error) {
			near, far := link(&serving, 0)
			serving.Go(func() {
				defer far.Close()
				serve(far)
			})
			return near, nil
		}
	}
}

func says(text string) func(*tls.Conn) {
	return func(c *tls.Conn) {
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, c)
	}
}

func lieConfig(ca *clienttest.Authority, i *client.Identity, edit ...func(*client.Config)) *client.Dialer {
	c := client.Config{Host: host, Identity: i, RootCAs: clienttest.Pool(ca), Proxy: client.FixedProxy(nil), Routes: []client.Kind{client.ALPN}}
	if i == nil {
		c.User, c.Password = alice, password
	}
	for _, e := range edit {
		e(&c)
	}
	return must(client.New(c))
}

// TestImpostors: what is no gateway ends the route, in time, with its own class.
func TestImpostors(t *testing.T) {
	ca := clienttest.NewAuthority(t, "CA")
	key := must(client.NewIdentity(client.ECDSA, ""))
	dribble := func(c io.Writer, text string) {
		for i := range len(text) {
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	tests := map[string]struct {
		serve func(net.Conn)
		key   bool
		want  client.Class
	}{
		"silence":           {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, true, client.Silence},
		"hangs up":          {func(c net.Conn) { _, _ = c.Read(make([]byte, 16<<10)) }, true, client.Closed},
		"SMTP in the clear": {func(c net.Conn) { _, _ = io.WriteString(c, "220 hello\r\n"); _, _ = io.Copy(io.Discard, c) }, true, client.NotTLS},
		"a portal": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 302 Found\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, true, client.HTTP},
		"a slow hello": {func(c net.Conn) { dribble(c, "\x16\x03\x03\x40\x00"+strings.Repeat("\x02", 100)) }, true, client.Silence},
		"an alert": {func(c net.Conn) {
			_, _ = io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x28")
			_, _ = io.Copy(io.Discard, c)
		}, true, client.Alerted},
		"no key asked for":     {liar(ca, false, says("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n")), true, client.NotAsked},
		"PREAUTH for nobody":   {liar(ca, false, says("* PREAUTH [CAPABILITY IMAP4rev1] welcome\r\n")), false, client.Greeting},
		"PREAUTH, and no more": {liar(ca, false, says("* PREAUTH\r\n")), false, client.Greeting},
		"no greeting":          {liar(ca, true, says("")), true, client.Silence},
		"a slow greeting":      {liar(ca, true, func(c *tls.Conn) { dribble(c, "* OK [CAPABILITY IMAP4rev1] hello\r\n") }), true, client.Silence},
		"an endless one":       {liar(ca, true, says("* OK "+strings.Repeat("x", 1<<16))), true, client.Greeting},
		"of another protocol":  {liar(ca, true, says("220 mail ESMTP\r\n")), true, client.Greeting},
		"busy":                 {liar(ca, true, says("* BYE [UNAVAILABLE] Too many connections\r\n")), true, client.Greeting},
		"HTTP":                 {liar(ca, true, says("HTTP/1.1 400 Bad Request\r\n\r\n")), true, client.HTTP},
		"ends after greeting":  {liar(ca, true, func(c *tls.Conn) { _, _ = io.WriteString(c, "* OK hi\r\n") }), false, client.Lost},
		"never says what":      {liar(ca, true, says("* OK hi\r\n")), false, client.Lost},
		"garbage for a reply":  {liar(ca, true, says("* OK hi\r\n\x00\x00\x00\r\n")), false, client.Lost},
		"another's tagged end": {liar(ca, true, says("* OK hi\r\nT9 OK done\r\n")), false, client.Lost},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				identity := key
				if !tt.key {
					identity = nil
				}
				began := time.Now()
				c, err := lieConfig(ca, identity, impostor(t, tt.serve)).IMAP(t.Context(), nil)
				if err == nil {
					c.Close()
				}
				checkRoute(t, name, err, want{class: tt.want})
				if took := time.Since(began); took > 2*time.Second { // one for the route, one for the login
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestLiars: a server that has not checked the password is not believed, and is
// not shown it.
func TestLiars(t *testing.T) {
	ca := clienttest.NewAuthority(t, "CA")
	b64 := base64.StdEncoding.EncodeToString
	// challenge continues the client's nonce, as a server would.
	challenge := func(line string, iterations int) string {
		fields := strings.Fields(line)
		first, _ := base64.StdEncoding.DecodeString(fields[len(fields)-1])
		_, nonce, _ := strings.Cut(string(first), "r=")
		return b64(fmt.Appendf(nil, "r=%sxyz,s=%s,i=%d", nonce, b64([]byte("saltsalt")), iterations))
	}
	tests := map[string]struct {
		replies func(tag, line string, n int) string
		want    error // nil: any *LoginError
	}{
		"says yes at once":    {func(tag, _ string, _ int) string { return tag + " OK done" }, client.ErrImpostor},
		"says yes in between": {func(tag, line string, n int) string { return pick(n, "+ "+challenge(line, 4096), tag+" OK done") }, client.ErrImpostor},
		"proves nothing": {func(tag, line string, n int) string {
			return pick(n, "+ "+challenge(line, 4096), "+ "+b64([]byte("v=AAAA")), tag+" OK done")
		}, nil},
		"asks for much work": {func(_, line string, n int) string { return pick(n, "+ "+challenge(line, 2_000_000_000)) }, nil},
		"asks for little":    {func(_, line string, n int) string { return pick(n, "+ "+challenge(line, 1)) }, nil},
		"has another nonce":  {func(string, string, int) string { return "+ " + b64([]byte("r=other,s=c2FsdA==,i=4096")) }, nil},
		"says an error":      {func(string, string, int) string { return "+ " + b64([]byte("e=unknown-user")) }, nil},
		"goes on and on": {func(_, line string, n int) string {
			return pick(n, "+ "+challenge(line, 4096), "+ "+b64([]byte("v=AAAA")), "+ AAAA")
		}, nil},
		"refuses":              {func(tag, _ string, _ int) string { return tag + " NO [AUTHENTICATIONFAILED] no" }, nil},
		"refuses, then offers": {func(tag, _ string, n int) string { return pick(n, tag+" NO no", tag+" OK yes") }, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var heard []string
				lie := liar(ca, true, func(c *tls.Conn) {
					_, _ = io.WriteString(c, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=PLAIN] hi\r\n")
					lines := bufio.NewScanner(c)
					tag := ""
					for n := 0; lines.Scan(); n++ {
						mu.Lock()
						heard = append(heard, lines.Text())
						mu.Unlock()
						if n == 0 {
							tag, _, _ = strings.Cut(lines.Text(), " ")
						}
						_, _ = io.WriteString(c, tt.replies(tag, lines.Text(), n)+"\r\n")
					}
				})
				c, err := lieConfig(ca, nil, impostor(t, lie)).IMAP(t.Context(), nil)
				if err == nil {
					c.Close()
				}
				var refused *client.LoginError
				if !errors.As(err, &refused) || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("%v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, line := range heard {
					if strings.Contains(line, "PLAIN") || strings.Contains(line, b64([]byte("\x00"+alice+"\x00"+password))) {
						t.Errorf("was sent %q", line)
					}
				}
			})
		})
	}
}

// pick returns the nth reply, or the last.
func pick(n int, replies ...string) string { return replies[min(n, len(replies)-1)] }

// A middlebox that passes the answer to the web transport's request on, and then
// keeps what is inside to itself, gets a WebSocket, which it cannot keep.
func TestMiddleboxKeepsTheBody(t *testing.T) {
	g := start(t)
	ca := clienttest.NewAuthority(t, "a middlebox")
	onward := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: clienttest.Pool(g.CA), NextProtos: []string{"http/1.1"}},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, g.Ports[443])
		}}
	t.Cleanup(onward.CloseIdleConnections)
	pass := &httputil.ReverseProxy{Transport: onward, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: host}) }}
	box := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 {
			pass.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	box.EnableHTTP2 = true
	box.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Issue(host)}}
	box.StartTLS()
	t.Cleanup(box.Close)
	c := g.config(nil)
	c.Routes, c.RootCAs, c.Timeout = []client.Kind{client.Web}, clienttest.Pool(g.CA, ca), 4*time.Second
	c.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, box.Listener.Addr().String())
	}
	imap, err := must(client.New(c)).IMAP(within(t, 20*time.Second), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := imap.Logout().Wait(); err != nil {
		t.Error(err)
	}
	imap.Close()
}
