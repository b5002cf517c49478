package devices_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/admin"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/handlers/https/account"
	"posthorn/handlers/https/devices"
	"posthorn/handlers/https/httpstest"
	"posthorn/handlers/https/pages"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

var operator = admin.Actor{Name: "test", Operator: true}

// servers are those of a gateway with all its ports.
var servers = []devices.Server{
	{Protocol: devices.IMAP, Host: "mail.example.org", Port: 993},
	{Protocol: devices.IMAP, Host: "imap.example.org", Port: 443},
	{Protocol: devices.IMAP, Host: "mail.example.org", Port: 443, ALPN: "imap"},
	{Protocol: devices.Submission, Host: "mail.example.org", Port: 465},
	{Protocol: devices.Submission, Host: "smtp.example.org", Port: 443},
	{Protocol: devices.Submission, Host: "mail.example.org", Port: 587, StartTLS: true},
}

// world is the pages, over HTTPS, with a real service below.
type world struct {
	*admin.Service
	t       *testing.T
	url     string
	ways    []devices.Server // what the pages say
	profile string           // URL of one without a key
	client  *http.Client
	mux     string // its address
	log     *muxtest.Log
	alice   *accounts.Account
	bob     *accounts.Account
}

func newWorld(t *testing.T) *world { return worldOf(t, "alice@example.org") }

// worldOf is one whose first account has an address of its own.
func worldOf(t *testing.T, address string) *world {
	t.Helper()
	house := accountstest.New(t, accounts.Options{Domains: []string{"example.org"}})
	w := &world{t: t, ways: servers, log: new(muxtest.Log)}
	w.Service = &admin.Service{Accounts: house.Accounts, Keys: house.Keys, Store: house.KV, Log: zerolog.New(w.log)}
	w.listen()
	w.alice, w.bob = w.account(address), w.account("bob@example.org")
	w.serve()
	return w
}

func (w *world) account(address string) *accounts.Account {
	w.t.Helper()
	a, err := w.AddAccount(w.t.Context(), operator, admin.NewAccount{Address: address, Password: admin.NewPassword{Chosen: "correct horse"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Account.Account
}

// serve serves the pages. Who asks says who it is, in a header.
func (w *world) serve() {
	w.t.Helper()
	p, err := pages.New(pages.Config{Log: zerolog.New(w.log)})
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := devices.New(devices.Config{Pages: p, Admin: w.Service, Host: "mail.example.org", Log: zerolog.New(w.log),
		Servers: func(string) []devices.Server { return w.ways }, Profile: func(string) string { return w.profile },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	m := http.NewServeMux()
	for pattern, h := range d.Routes() {
		m.Handle(pattern, p.Protect(0, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			a := w.alice
			if r.Header.Get("X-Visitor") == "bob" {
				a = w.bob
			}
			h(rw, r, account.Visitor{Account: a, Actor: admin.Actor{Name: a.Primary(), Account: a.ID}})
		})))
	}
	server := httptest.NewTLSServer(m)
	w.t.Cleanup(server.Close)
	w.url = server.URL
	client := server.Client()
	if client.Jar, err = cookiejar.New(nil); err != nil {
		w.t.Fatal(err)
	}
	w.client = client
}

// listen serves a mux that logs clients in by their keys.
func (w *world) listen() {
	w.t.Helper()
	g := greeter{w.Accounts, w.t}
	w.Mux = mux.New(mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{alpn.IMAP: g, alpn.SMTP: g},
		Certs:    muxtest.NewCertificates(w.t),
		Log:      zerolog.Nop(),
	})
	w.mux, _ = httpstest.Serve(w.t, w.Mux, alpn.Shared)
}

// answer is a response, read.
type answer struct {
	*http.Response
	body string
}

// text is what somebody reads, without tags and in one line.
func (a *answer) text() string {
	return strings.Join(strings.Fields(untagged(strings.NewReplacer("</td>", " </td>", "<br>", " ").Replace(a.body))), " ")
}

func untagged(html string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(html, "<")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, html, _ = strings.Cut(rest, ">")
	}
}

func (w *world) do(r *http.Request) *answer {
	w.t.Helper()
	resp, err := w.client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return &answer{resp, string(b)}
}

func (w *world) request(method, path string, body io.Reader, header ...string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func (w *world) get(path string, header ...string) *answer {
	w.t.Helper()
	return w.do(w.request("GET", path, nil, header...))
}

func (w *world) post(path string, form url.Values, header ...string) *answer {
	w.t.Helper()
	header = append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)
	form = ticked(form)
	return w.do(w.request("POST", path, strings.NewReader(form.Encode()), header...))
}

// ticked is a form with all boxes ticked, as they are until somebody changes it.
func ticked(form url.Values) url.Values {
	all := url.Values{"scope": {"imap", "smtp", "https"}}
	maps.Copy(all, form)
	return all
}

// upload sends a form with a file, as the page does.
func (w *world) upload(file []byte, fields url.Values) *answer {
	w.t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	part, err := m.CreateFormFile("file", "x")
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := part.Write(file); err != nil {
		w.t.Fatal(err)
	}
	for name, values := range ticked(fields) {
		for _, v := range values {
			if err := m.WriteField(name, v); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if err := m.Close(); err != nil {
		w.t.Fatal(err)
	}
	return w.do(w.request("POST", "/account/keys", &b, "Content-Type", m.FormDataContentType()))
}

// keys are those of an account, from below the pages.
func (w *world) keys(a *accounts.Account) []admin.Key {
	w.t.Helper()
	keys, err := w.ListKeys(w.t.Context(), operator, a.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return keys
}

// greeter logs in who shows a key, and waits until the connection is to end.
type greeter struct {
	accounts *accounts.Store
	t        *testing.T
}

func (greeter) Busy() []byte { return nil }

func (g greeter) ServeConn(ctx context.Context, c *mux.Conn) {
	l, err := g.accounts.NewAuth(accounts.Peer{Key: c.Key, Scope: authkeys.ScopeIMAP, TLS: c.TLS()}).Key(ctx)
	if err != nil {
		g.t.Error(err)
		return
	}
	if err := c.SetIdentity(mux.Identity{Account: l.Account.ID, Address: l.Address, Mechanism: l.Mechanism, Key: l.Key}); err != nil {
		g.t.Error(err)
		return
	}
	fmt.Fprintln(c, "welcome")
	<-ctx.Done()
}

// session logs in to the mux with a key.
func (w *world) session(pair tls.Certificate) *bufio.Reader {
	w.t.Helper()
	c, err := tls.Dial("tcp", w.mux, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"imap"}, Certificates: []tls.Certificate{pair},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); line != "welcome\n" {
		w.t.Fatalf("greeted with %q, %v", line, err)
	}
	return r
}

// newKey makes a key, and its certificate in PEM.
func newKey(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	pair := muxtest.KeyPair(t)
	return pair, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
}

// spki is a key's SubjectPublicKeyInfo.
func spki(t *testing.T, pair tls.Certificate) []byte {
	t.Helper()
	c, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return c.RawSubjectPublicKeyInfo
}
