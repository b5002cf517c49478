package https_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/alpn"
	"posthorn/handlers/https"
	"posthorn/handlers/https/httpstest"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const serverName = "mail.example.org"

// patience is for what should take no time, on a machine that has much else to do.
const patience = time.Minute

// gateway is a running server for serverName and localhost.
type gateway struct {
	*mux.Server
	t       testing.TB
	addr    string
	connect func() (net.Conn, error)
	stop    func() // before the test ends
	log     muxtest.Log
}

// newGateway makes one that does not serve yet.
func newGateway(t testing.TB, edit func(*https.Server)) *gateway {
	t.Helper()
	g := &gateway{t: t}
	s := &https.Server{
		Serves: func(host string) bool { return host == serverName || host == "localhost" },
		HSTS:   730 * 24 * time.Hour,
		Log:    zerolog.New(&g.log),
	}
	if edit != nil {
		edit(s)
	}
	g.Server = mux.New(mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{alpn.HTTP1: s, alpn.HTTP2: s},
		Router:   new(alpn.Router),
		Certs:    muxtest.NewCertificates(t, serverName),
		Log:      zerolog.New(&g.log),
	})
	return g
}

func start(t testing.TB, edit func(*https.Server)) *gateway {
	t.Helper()
	g := newGateway(t, edit)
	g.addr, g.stop = httpstest.Serve(t, g.Server, alpn.Shared)
	g.connect = func() (net.Conn, error) { return net.Dial("tcp", g.addr) }
	return g
}

// startOnPipes is start for a synctest bubble. There is no addr.
func startOnPipes(t testing.TB, edit func(*https.Server)) *gateway {
	t.Helper()
	g := newGateway(t, edit)
	pipes := httpstest.NewPipes()
	g.stop, g.connect = httpstest.ServeOn(t, g.Server, pipes, alpn.Shared), pipes.Dial
	return g
}

// client returns an HTTP client of the gateway under serverName, for HTTP/2 or
// HTTP/1.1.
func (g *gateway) client(h2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	tr := &http.Transport{
		Protocols:       protocols,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext:     func(context.Context, string, string) (net.Conn, error) { return g.connect() },
	}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

func get(t testing.TB, cl *http.Client, path string) (*http.Response, string) {
	t.Helper()
	r, err := cl.Get("https://" + serverName + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(b)
}

// dial connects with what a raw client offers and names.
func (g *gateway) dial(name string, protos ...string) *tls.Conn {
	g.t.Helper()
	nc, err := g.connect()
	if err != nil {
		g.t.Fatal(err)
	}
	c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: protos})
	c.SetDeadline(time.Now().Add(patience))
	if err := c.Handshake(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

// raw sends input over a new connection and returns all that comes back, until
// the server closes.
func (g *gateway) raw(input string) string {
	g.t.Helper()
	c := g.dial(serverName, "http/1.1")
	go io.WriteString(c, input)
	b, _ := io.ReadAll(c)
	return string(b)
}

func statuses(responses string) []string {
	var found []string
	for _, m := range statusLine.FindAllStringSubmatch(responses, -1) {
		found = append(found, m[1])
	}
	return found
}

// statusLine can stand right behind a body.
var statusLine = regexp.MustCompile(`HTTP/1\.[01] ([0-9]{3})`)
