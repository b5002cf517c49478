// Package gatewaytest is a gateway in the test's own process, for tests of what
// reaches one: mux, the handlers, embedded mailboxes, and an account with a
// password and a key.
package gatewaytest

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/backend"
	"posthorn/backend/backendtest"
	"posthorn/certs/ech"
	"posthorn/client"
	"posthorn/client/clienttest"
	"posthorn/client/webtransport"
	"posthorn/handlers/https"
	"posthorn/handlers/https/transport"
	"posthorn/handlers/imap"
	"posthorn/handlers/smtp"
	"posthorn/mailbox"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

// Who has an account at the gateway, and what it is called.
const (
	Alice      = "alice@example.org"
	Password   = `correct "Horse\` // with all that has to be escaped
	Host       = "mail.example.org"
	PublicName = "public.example.org" // of ECH
)

// Gateway is a gateway on three ports, which serves imap.example.org and
// smtp.example.org without ALPN too.
type Gateway struct {
	Ports clienttest.Gateway
	CA    *clienttest.Authority
	ECH   ech.Key
	Key   *client.Identity // alice's, which is registered
	Log   *muxtest.Log
	// Sessions counts those of IMAP that were opened.
	Sessions atomic.Int32
	// TellsECH says whether the gateway tells its ECH configuration over HTTPS.
	TellsECH atomic.Bool

	t      testing.TB
	keys   *authkeys.Store
	alice  *accounts.Account
	config mux.Config
	stop   func()
}

// Start runs a gateway until the test's end.
func Start(t testing.TB) *Gateway {
	t.Helper()
	house := accountstest.New(t, accounts.Options{Throttle: accounts.Throttle{PerSource: 1000}})
	g := &Gateway{
		Ports: clienttest.Gateway{}, CA: clienttest.NewAuthority(t, "the gateway's CA"), ECH: must(ech.Generate(1, PublicName, 40)),
		Key: must(client.NewIdentity(client.ECDSA, Alice)), Log: new(muxtest.Log), t: t, keys: house.Keys, alice: house.Account(Alice, Password),
	}
	g.Register(g.Key, false)
	g.config = g.configure(house.Accounts)
	for number := range listeners {
		g.Ports[number] = fmt.Sprintf("127.0.0.1:%d", backendtest.Port(t)) // nobody else's between Stop and Serve
	}
	g.Serve()
	t.Cleanup(func() { g.Stop() })
	return g
}

func (g *Gateway) configure(users *accounts.Store) mux.Config {
	log := zerolog.New(g.Log)
	mail := must(mailbox.Open(g.t.TempDir(), mailbox.Options{Log: zerolog.Nop()}))
	g.t.Cleanup(func() { mail.Close() })
	behind := counted{&backend.Embedded{Mail: mail, Accounts: users, Domains: []string{"example.org"}, Log: log}, &g.Sessions}
	web := &https.Server{
		Transport: &transport.Handler{Path: webtransport.DefaultPath},
		Serves:    func(string) bool { return true }, Ready: func() bool { return true }, Log: log,
	}
	web.Mount("GET /.well-known/origin-svcb", http.HandlerFunc(g.tellOrigin))
	return mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{
			alpn.IMAP:  &imap.Handler{Accounts: users, Backend: behind, Hostname: Host, Log: log},
			alpn.SMTP:  &smtp.Handler{Accounts: users, Backend: behind, Hostname: Host, Log: log},
			alpn.HTTP1: web,
		},
		Router: &alpn.Router{Names: map[string]alpn.Protocol{"imap.example.org": alpn.IMAP, "smtp.example.org": alpn.SMTP}},
		Certs: certificates{
			muxtest.Certificates{Pair: g.CA.Issue(Host, PublicName, "imap.example.org", "smtp.example.org")},
			ech.ForTLS([]ech.Key{g.ECH}),
		},
		Log: log,
	}
}

var listeners = map[uint16]alpn.Port{443: alpn.Shared, 993: alpn.IMAPS, 465: alpn.Submissions}

// Serve begins to serve again, on the ports of before.
func (g *Gateway) Serve() {
	server := mux.New(g.config)
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // which gives a port back only some time after the listener is closed
	var serving sync.WaitGroup
	for number, port := range listeners {
		ln := must(plain.Listen(context.Background(), "tcp", g.Ports[number]))
		serving.Go(func() {
			if err := server.Serve(context.Background(), ln, port); err != nil {
				g.t.Error(err)
			}
		})
	}
	g.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = server.Shutdown(ctx)
		serving.Wait()
	}
}

// Stop ends all connections, and serves no more.
func (g *Gateway) Stop() { g.stop() }

// Register makes a key alice's.
func (g *Gateway) Register(i *client.Identity, noPreauth bool) {
	g.t.Helper()
	k := authkeys.Key{Fingerprint: i.Fingerprint(), Account: g.alice.ID, Name: "test", Type: i.Type(), NoPreauth: noPreauth}
	if err := g.keys.Add(context.Background(), k); err != nil {
		g.t.Fatal(err)
	}
}

// Client is the configuration of a client in a network, with alice's key.
func (g *Gateway) Client(n *clienttest.Network) client.Config {
	return client.Config{
		Host: Host, Identity: g.Key, RootCAs: clienttest.Pool(g.CA), DialContext: n.DialContext,
		Proxy: client.FixedProxy(nil), ECHConfigList: ech.List(g.ECH),
	}
}

func (g *Gateway) tellOrigin(w http.ResponseWriter, r *http.Request) {
	if !g.TellsECH.Load() {
		http.NotFound(w, r)
		return
	}
	list := base64.StdEncoding.EncodeToString(ech.List(g.ECH))
	fmt.Fprintf(w, `{"regeninterval":86400,"endpoints":[{"priority":1,"params":{"alpn":["h2"],"ech":%q}}]}`, list)
}

// certificates is a mux.Certificates with ECH.
type certificates struct {
	muxtest.Certificates
	keys []tls.EncryptedClientHelloKey
}

// ECHKeys implements mux.Certificates.
func (c certificates) ECHKeys(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
	return c.keys, nil
}

// counted counts the sessions that its Backend opens.
type counted struct {
	*backend.Embedded
	sessions *atomic.Int32
}

// OpenIMAP implements backend.Backend.
func (c counted) OpenIMAP(ctx context.Context, l *accounts.Login, cl *backend.Client) (backend.IMAPSession, error) {
	c.sessions.Add(1)
	return c.Embedded.OpenIMAP(ctx, l, cl)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
