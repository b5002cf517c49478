package signup_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/admin"
	"posthorn/alpn"
	"posthorn/handlers/https"
	"posthorn/handlers/https/httpstest"
	"posthorn/handlers/https/signup"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a gateway at which people sign up.
type world struct {
	t        *testing.T
	addr     string
	accounts *accounts.Store
	log      *muxtest.Log
}

func start(t *testing.T, port int, edit func(*admin.SignupRules)) *world {
	t.Helper()
	domains := []string{"example.org", "_relay.example.org"}
	house := accountstest.New(t, accounts.Options{Domains: domains})
	w := &world{t: t, accounts: house.Accounts, log: new(muxtest.Log)}
	rules := admin.SignupRules{
		Domains: domains, NameLength: 9, NameAlphabet: "abcdefghijklmnopqrstuvwxyz0123456789", PasswordLength: 20,
		PerSource: 5, Total: 100, Window: time.Hour,
	}
	edit(&rules)
	service := &admin.Service{Accounts: w.accounts, Keys: house.Keys, Store: house.KV, Log: zerolog.New(w.log)}
	h := &signup.Handler{Signups: service.Signups(rules), Port: port, Log: zerolog.New(w.log)}
	s := &https.Server{Serves: func(string) bool { return true }, Log: zerolog.Nop()}
	h.Mount(s)
	w.serve(s)
	return w
}

func (w *world) serve(s *https.Server) {
	w.t.Helper()
	m := mux.New(mux.Config{
		Handlers: map[alpn.Protocol]mux.Handler{alpn.HTTP1: s, alpn.HTTP2: s}, Router: new(alpn.Router),
		Certs: muxtest.NewCertificates(w.t), ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Log: zerolog.Nop(),
	})
	w.addr, _ = httpstest.Serve(w.t, m, alpn.Shared)
}

// ask sends a request from a source, which a load balancer tells of.
func (w *world) ask(source, method, url string, header http.Header) (*http.Response, map[string]string) {
	family := "TCP4"
	if strings.Contains(source, ":") {
		family = "TCP6"
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", w.addr)
			if err == nil {
				_, err = io.WriteString(c, "PROXY "+family+" "+source+" "+source+" 1000 443\r\n")
			}
			return c, err
		},
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		w.t.Error(err)
		return nil, nil
	}
	if header != nil {
		r.Header = header
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		w.t.Error(err)
		return nil, nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Error(err)
	}
	var fields map[string]string
	_ = json.Unmarshal(text, &fields) // not everything is JSON
	return response, fields
}

func TestCreate(t *testing.T) {
	w := start(t, 443, func(*admin.SignupRules) {})
	for _, url := range []string{"https://example.org/new", "https://example.org/cgi-bin/newemail.py", "https://_relay.example.org/new"} {
		r, made := w.ask("192.0.2.1", "POST", url, nil)
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%s: %v %v", url, r.Status, r.Header)
		}
		auth := w.accounts.NewAuth(accounts.Peer{TLS: new(tls.ConnectionState)})
		if _, err := auth.Password(t.Context(), made["email"], made["password"]); err != nil {
			t.Errorf("%s: %v: %v", url, made, err)
		}
		relay := strings.Contains(url, "_relay")
		want := "dclogin:" + made["email"] + "?p=" + made["password"] + "&v=1&ic=3&sc=3"
		if got := made["dclogin_url"]; relay && got != want || !relay && got != "" {
			t.Errorf("%s: the link is %q", url, got)
		}
		if strings.Contains(w.log.String(), made["password"]) {
			t.Error("the password is in the log")
		}
	}
	if r, _ := w.ask("192.0.2.1", "POST", "https://elsewhere.test/new", nil); r.StatusCode != 404 {
		t.Errorf("another host: %v", r.Status)
	}
	if r, _ := w.ask("192.0.2.1", "PUT", "https://example.org/new", nil); r.StatusCode != 405 {
		t.Errorf("PUT: %v", r.Status)
	}
}

func TestRedirect(t *testing.T) {
	for port, want := range map[int]string{443: "dcaccount:https://example.org/new", 8443: "dcaccount:https://example.org:8443/new"} {
		w := start(t, port, func(*admin.SignupRules) {})
		for query, suffix := range map[string]string{"": "", "?t=a%20b%0d%0ax": "?t=a+b%0D%0Ax", "?u=c": ""} {
			for _, path := range []string{"/new", "/cgi-bin/newemail.py"} {
				r, _ := w.ask("192.0.2.1", "GET", "https://example.org"+path+query, nil)
				if got := r.Header.Get("Location"); r.StatusCode != 302 || got != want+suffix {
					t.Errorf("%s%s: %v to %q", path, query, r.Status, got)
				}
			}
		}
		if _, err := one(w); err == nil {
			t.Error("somebody who looked has an account")
		}
	}
}

// one returns the first account that there is.
func one(w *world) (*accounts.Account, error) {
	for a, err := range w.accounts.List(w.t.Context()) {
		return a, err
	}
	return nil, accounts.ErrNoAccount
}

func TestToken(t *testing.T) {
	w := start(t, 443, func(r *admin.SignupRules) { r.Token = "open sesame" })
	for query, want := range map[string]int{"": 403, "?t=": 403, "?t=open": 403, "?t=" + strings.Repeat("x", 10_000): 403, "?t=open+sesame": 200} {
		r, fields := w.ask("192.0.2.1", "POST", "https://example.org/new"+query, nil)
		if r.StatusCode != want || want == 403 && (fields["reason"] == "" || fields["email"] != "") {
			t.Errorf("%.20s: %v %v", query, r.Status, fields)
		}
	}
	if strings.Contains(w.log.String(), "sesame") {
		t.Error("the token is in the log")
	}
}

// A page of somebody else's makes no accounts with its visitors' addresses.
func TestCrossOrigin(t *testing.T) {
	w := start(t, 443, func(*admin.SignupRules) {})
	for _, header := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"https://evil.test"}}, {"Origin": {"null"}},
	} {
		if r, _ := w.ask("192.0.2.1", "POST", "https://example.org/new", header); r.StatusCode != 403 {
			t.Errorf("%v: %v", header, r.Status)
		}
	}
	if _, err := one(w); err == nil {
		t.Error("there is an account")
	}
}

func TestLimits(t *testing.T) {
	w := start(t, 443, func(r *admin.SignupRules) { r.Total = 12 })
	var (
		wait sync.WaitGroup
		mu   sync.Mutex
		made = make(map[string]int)
	)
	for range 10 {
		for _, source := range []string{"192.0.2.1", "2001:db8::1", "2001:db8::2"} {
			wait.Go(func() {
				r, fields := w.ask(source, "POST", "https://example.org/new", nil)
				if r == nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				switch r.StatusCode {
				case 200:
					made[strings.SplitAfter(source, ":")[0]]++
				case 429:
					if after := r.Header.Get("Retry-After"); after == "" || after == "0" || fields["reason"] == "" {
						t.Errorf("refused with %v %v", r.Header, fields)
					}
				default:
					t.Errorf("refused with %v", r.Status)
				}
			})
		}
	}
	wait.Wait()
	if made["192.0.2.1"] != 5 || made["2001:"] != 5 {
		t.Errorf("sources made %v accounts", made)
	}
	for i := range 4 {
		if r, _ := w.ask("192.0.2.9", "POST", "https://example.org/new", nil); (r.StatusCode == 200) != (i < 2) {
			t.Errorf("account %d: %v", 11+i, r.Status)
		}
	}
}
