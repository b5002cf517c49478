package client_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"flag"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/accounts"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/backend"
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
	"posthorn/store/badgerkv"
)

func TestMain(m *testing.M) {
	// Tests that are parallel wait more than they compute.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const (
	alice      = "alice@example.org"
	password   = `correct "Horse\`
	host       = "mail.example.org"
	publicName = "public.example.org"
)

// gateway is a gateway in this process: mux, the handlers, mailboxes.
type gateway struct {
	t        testing.TB
	mux      *mux.Server
	ca       *clienttest.Authority
	accounts *accounts.Store
	keys     *authkeys.Store
	alice    *accounts.Account
	key      *client.Identity // alice's
	log      *muxtest.Log
	ports    clienttest.Gateway
	ech      ech.Key
	sessions atomic.Int32 // of IMAP that were opened
	origin   atomic.Bool  // whether the ECH configuration is told
}

// certificates is a mux.Certificates with ECH.
type certificates struct {
	muxtest.Certificates
	keys []tls.EncryptedClientHelloKey
}

func (c certificates) ECHKeys(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
	return c.keys, nil
}

// counted counts the sessions that its Backend opens.
type counted struct {
	*backend.Embedded
	sessions *atomic.Int32
}

func (c counted) OpenIMAP(ctx context.Context, l *accounts.Login, cl *backend.Client) (backend.IMAPSession, error) {
	c.sessions.Add(1)
	return c.Embedded.OpenIMAP(ctx, l, cl)
}

// start runs a gateway with alice, her password and her key.
func start(t testing.TB) *gateway {
	t.Helper()
	ctx := context.Background()
	kv := must(badgerkv.OpenMemory())
	t.Cleanup(func() { kv.Close() })
	g := &gateway{t: t, keys: authkeys.New(kv), log: new(muxtest.Log), ca: clienttest.NewAuthority(t, "the gateway's CA"), ports: clienttest.Gateway{}}
	g.accounts = must(accounts.New(ctx, kv, g.keys, accounts.Options{Throttle: accounts.Throttle{PerSource: 1000}}))
	g.alice = must(g.accounts.Add(ctx, alice, password))
	g.key = must(client.NewIdentity(client.ECDSA, alice))
	g.register(g.key, false)
	g.ech = must(ech.Generate(1, publicName, 40))

	log := zerolog.New(g.log)
	mail := must(mailbox.Open(t.TempDir(), mailbox.Options{Log: zerolog.Nop()}))
	t.Cleanup(func() { mail.Close() })
	behind := counted{&backend.Embedded{Mail: mail, Accounts: g.accounts, Domains: []string{"example.org"}, Log: log}, &g.sessions}
	web := &https.Server{Transport: &transport.Handler{Path: webtransport.DefaultPath}, Serves: func(string) bool { return true }, Ready: func() bool { return true }, Log: log}
	web.Mount("GET /.well-known/origin-svcb", http.HandlerFunc(g.tellOrigin))
	certs := certificates{muxtest.Certificates{Pair: g.ca.Issue(host, publicName, "imap.example.org", "smtp.example.org")}, ech.ForTLS([]ech.Key{g.ech})}
	g.mux = mux.New(mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{
			alpn.IMAP:  &imap.Handler{Accounts: g.accounts, Backend: behind, Hostname: host, Log: log},
			alpn.SMTP:  &smtp.Handler{Accounts: g.accounts, Backend: behind, Hostname: host, Log: log},
			alpn.HTTP1: web,
		},
		Router: &alpn.Router{Names: map[string]alpn.Protocol{"imap.example.org": alpn.IMAP, "smtp.example.org": alpn.SMTP}},
		Certs:  certs,
		Log:    log,
	})
	g.listen(map[uint16]alpn.Port{443: alpn.Shared, 993: alpn.IMAPS, 465: alpn.Submissions})
	return g
}

func (g *gateway) listen(ports map[uint16]alpn.Port) {
	var serving sync.WaitGroup
	for number, port := range ports {
		ln := must(net.Listen("tcp", "127.0.0.1:0"))
		g.ports[number] = ln.Addr().String()
		serving.Go(func() {
			if err := g.mux.Serve(context.Background(), ln, port); err != nil {
				g.t.Error(err)
			}
		})
	}
	g.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_ = g.mux.Shutdown(ctx)
		serving.Wait()
	})
}

func (g *gateway) tellOrigin(w http.ResponseWriter, r *http.Request) {
	if !g.origin.Load() {
		http.NotFound(w, r)
		return
	}
	list := base64.StdEncoding.EncodeToString(ech.List(g.ech))
	fmt.Fprintf(w, `{"regeninterval":86400,"endpoints":[{"priority":1,"params":{"alpn":["h2"],"ech":%q}}]}`, list)
}

func (g *gateway) register(i *client.Identity, noPreauth bool) {
	g.t.Helper()
	k := authkeys.Key{Fingerprint: i.Fingerprint(), Account: g.alice.ID, Name: "test", Type: i.Type(), NoPreauth: noPreauth}
	if err := g.keys.Add(context.Background(), k); err != nil {
		g.t.Fatal(err)
	}
}

// network puts a network before the gateway.
func (g *gateway) network(r clienttest.Rules) *clienttest.Network {
	g.t.Helper()
	return clienttest.New(g.t, g.ports, r)
}

// config is a client's in a network, with alice's key.
func (g *gateway) config(n *clienttest.Network) client.Config {
	return client.Config{
		Host: host, Identity: g.key, RootCAs: clienttest.Pool(g.ca), DialContext: n.DialContext,
		Proxy: client.FixedProxy(nil), ECHConfigList: ech.List(g.ech), Timeout: 3 * time.Second,
	}
}

func (g *gateway) dialer(n *clienttest.Network, edit ...func(*client.Config)) *client.Dialer {
	g.t.Helper()
	c := g.config(n)
	for _, e := range edit {
		e(&c)
	}
	d, err := client.New(c)
	if err != nil {
		g.t.Fatal(err)
	}
	return d
}

// only tries one route.
func only(k client.Kind) func(*client.Config) {
	return func(c *client.Config) { c.Routes = []client.Kind{k} }
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
