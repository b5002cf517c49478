package admin_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/mux/muxtest"
)

// serve serves a world on a unix socket and returns a client and the path.
func serve(t *testing.T, w *world) (*admin.Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &admin.Server{Service: w.Service, Metrics: prometheus.NewRegistry(), Log: zerolog.New(w.log)}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	c := admin.NewClient(path)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return c, path
}

func TestClient(t *testing.T) {
	w := newWorld(t)
	c, _ := serve(t, w)
	ctx := t.Context()
	a, err := c.AddAccount(ctx, admin.NewAccount{Address: "we/ird%2F@example.org", Password: admin.NewPassword{Generate: true}})
	if err != nil || a.GeneratedPassword == "" {
		t.Fatalf("%+v, %v", a, err)
	}
	ref := a.Primary()
	if all, err := c.ListAccounts(ctx); err != nil || len(all) != 1 || all[0].ID != a.ID {
		t.Errorf("accounts %v, %v", all, err)
	}
	if a, err := c.AddAddress(ctx, ref, "b/c@example.org"); err != nil || len(a.Addresses) != 2 {
		t.Errorf("addresses %+v, %v", a, err)
	}
	if a, err := c.RemoveAddress(ctx, ref, "b/c@example.org"); err != nil || len(a.Addresses) != 1 {
		t.Errorf("addresses %+v, %v", a, err)
	}
	if a, err := c.SetDisabled(ctx, ref, true); err != nil || !a.Disabled {
		t.Errorf("disabled %+v, %v", a, err)
	}
	if a, err := c.SetDisabled(ctx, ref, false); err != nil || a.Disabled {
		t.Errorf("enabled %+v, %v", a, err)
	}
	if p, err := c.SetPassword(ctx, ref, admin.NewPassword{Generate: true}); err != nil || p == "" || p == a.GeneratedPassword {
		t.Errorf("password %q, %v", p, err)
	}
	if p, err := c.SetPassword(ctx, ref, admin.NewPassword{}); err != nil || p != "" {
		t.Errorf("no password %q, %v", p, err)
	}
	pair := muxtest.KeyPair(t)
	k, err := c.AddKey(ctx, admin.NewKey{Account: ref, PublicKey: certPEM(pair), Scope: authkeys.ScopeIMAP})
	if err != nil || k.Scope != authkeys.ScopeIMAP {
		t.Fatalf("%+v, %v", k, err)
	}
	w.login(t, alpn.IMAP, "", pair)
	if conns, err := c.ListConns(ctx, ref); err != nil || len(conns) != 1 || conns[0].Identity.Key != k.Fingerprint {
		t.Errorf("connections %+v, %v", conns, err)
	} else if err := c.CloseConn(ctx, conns[0].ID); err != nil {
		t.Error(err)
	}
	if _, err := c.CloseConns(ctx, ref); err != nil {
		t.Error(err)
	}
	all := authkeys.Scope(0)
	if k, err := c.SetKey(ctx, k.Fingerprint, admin.KeyChange{Scope: &all}); err != nil || k.Scope != 0 {
		t.Errorf("set %+v, %v", k, err)
	}
	if keys, err := c.ListKeys(ctx, ref); err != nil || len(keys) != 1 || keys[0].Scope != 0 {
		t.Errorf("keys %+v, %v", keys, err)
	}
	w.mail.deliver(t, a.ID)
	if a, err := c.ShowAccount(ctx, a.ID); err != nil || len(a.Keys) != 1 || a.Mail.Bytes != int64(len(letter)) {
		t.Errorf("account %+v, %v", a, err)
	}
	if err := c.RemoveKey(ctx, k.Fingerprint); err != nil {
		t.Error(err)
	}
	if blocks, err := c.ListBlocks(ctx); err != nil || blocks == nil || len(blocks) != 0 {
		t.Errorf("blocks %v, %v", blocks, err)
	}
	if err := c.RemoveAccount(ctx, ref); err != nil {
		t.Error(err)
	}
	if events, err := c.Audit(ctx, 2); err != nil || len(events) != 2 || events[1].Action != "account remove" ||
		!strings.HasPrefix(events[1].Actor, "uid ") {
		t.Errorf("events %+v, %v", events, err)
	}
}

// The client's errors are the Service's, as far as callers can tell.
func TestClientErrors(t *testing.T) {
	w := newWorld(t)
	c, _ := serve(t, w)
	ctx := t.Context()
	alice := w.account(t, "alice@example.org")
	pair, k := w.key(t, alice.ID)
	tests := []struct {
		name string
		do   func() error
		want error
		code string
	}{
		{"account", func() error { _, err := c.ShowAccount(ctx, "x@example.org"); return err }, accounts.ErrNoAccount, admin.CodeNoAccount},
		{"taken", func() error { _, err := c.AddAccount(ctx, admin.NewAccount{Address: "alice@example.org"}); return err }, accounts.ErrTaken, admin.CodeAddressTaken},
		{"domain", func() error { _, err := c.AddAccount(ctx, admin.NewAccount{Address: "alice@example.com"}); return err }, accounts.ErrDomain, admin.CodeDomain},
		{"last", func() error { _, err := c.RemoveAddress(ctx, alice.ID, "alice@example.org"); return err }, accounts.ErrLast, admin.CodeLastAddress},
		{"key", func() error { _, err := c.ShowKey(ctx, authkeys.Fingerprint{1}); return err }, authkeys.ErrUnknown, admin.CodeUnknownKey},
		{"key taken", func() error {
			_, err := c.AddKey(ctx, admin.NewKey{Account: alice.ID, PublicKey: certPEM(pair)})
			return err
		}, authkeys.ErrTaken, admin.CodeKeyTaken},
		{"conn", func() error { return c.CloseConn(ctx, 99) }, admin.ErrNoConn, admin.CodeNoConn},
		{"block", func() error { return c.RemoveBlock(ctx, "192.0.2.1") }, admin.ErrNoBlock, admin.CodeNoBlock},
		{"block of peers without an address", func() error { return c.RemoveBlock(ctx, "local") }, admin.ErrNoBlock, admin.CodeNoBlock},
		{"no change", func() error { _, err := c.SetKey(ctx, k.Fingerprint, admin.KeyChange{}); return err }, nil, admin.CodeInvalid},
		{"no account to close", func() error { _, err := c.CloseConns(ctx, ""); return err }, nil, admin.CodeInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do()
			var p *admin.Problem
			if !errors.As(err, &p) || p.Code != tt.code {
				t.Fatalf("got %v, want %s", err, tt.code)
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v is not %v", err, tt.want)
			}
			if p.Status < 400 || p.Detail == "" || p.Title == "" || p.Type != "about:blank" {
				t.Errorf("problem %+v", p)
			}
		})
	}
	for _, ref := range []string{"", ".", "..", "..."} {
		if invalid := (*admin.InvalidError)(nil); !errors.As(c.RemoveAccount(ctx, ref), &invalid) {
			t.Errorf("%q may be removed", ref)
		}
	}
}

// A private key never leaves the client, whatever stands around it.
func TestPrivateKeyStays(t *testing.T) {
	var seen bytes.Buffer
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(&seen, r.Body)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}")
	})}
	done := make(chan struct{})
	go func() { h.Serve(ln); close(done) }()
	defer func() { h.Close(); <-done }()

	const private = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" +
		"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
	cert := certPEM(muxtest.KeyPair(t))
	c := admin.NewClient(path)
	defer c.Close()
	for _, text := range []string{private + cert, cert + private, "subject=alice\n" + private + "issuer=x\n" + cert + "bye\n"} {
		seen.Reset()
		if _, err := c.AddKey(t.Context(), admin.NewKey{Account: "alice", PublicKey: text}); err != nil {
			t.Error(err)
		}
		if !strings.Contains(seen.String(), "CERTIFICATE") || strings.Contains(seen.String(), "c2VjcmV0") || strings.Contains(seen.String(), "PRIVATE") {
			t.Errorf("sent %s", &seen)
		}
	}
	seen.Reset()
	if _, err := c.AddKey(t.Context(), admin.NewKey{Account: "alice", PublicKey: private}); err == nil || seen.Len() > 0 {
		t.Errorf("a private key alone: %v, sent %s", err, &seen)
	}
}

func TestRawRequests(t *testing.T) {
	w := newWorld(t)
	_, path := serve(t, w)
	w.account(t, "alice@example.org")
	const secret = "hunter2hunter2"
	tests := []struct {
		name, method, url, typ, body string
		status                       int
	}{
		{"form", "POST", "/admin/api/v1/accounts", "application/x-www-form-urlencoded", "address=" + secret, 415},
		{"no type", "POST", "/admin/api/v1/accounts", "", `{"address":"x@example.org"}`, 415},
		{"no JSON", "POST", "/admin/api/v1/accounts", "application/json", `{"password":"` + secret, 400},
		{"wrong type", "POST", "/admin/api/v1/accounts", "application/json", `{"address":{"` + secret + `":1}}`, 422},
		{"unknown field", "POST", "/admin/api/v1/accounts", "application/json", `{"` + secret + `":1}`, 422},
		{"two values", "POST", "/admin/api/v1/accounts", "application/json", `{"address":"x@example.org"}{}`, 400},
		{"too long", "POST", "/admin/api/v1/accounts", "application/json", `{"address":"` + strings.Repeat(secret, 1<<18) + `"}`, 413},
		{"bad scope", "POST", "/admin/api/v1/keys", "application/json", `{"account":"alice@example.org","scope":"` + secret + `"}`, 422},
		{"bad password", "PUT", "/admin/api/v1/accounts/alice@example.org/password", "application/json", `{"chosen":"` + secret + `\u0000"}`, 422},
		{"no operation", "GET", "/admin/api/v1/" + secret, "", "", 404},
		{"wrong method", "POST", "/admin/api/v1/status", "application/json", "{}", 405},
		{"dots", "DELETE", "/admin/api/v1/accounts/..", "", "", 404},
		{"empty", "DELETE", "/admin/api/v1/accounts/", "", "", 404},
		{"bad fingerprint", "GET", "/admin/api/v1/keys/" + secret, "", "", 422},
		{"bad ID", "DELETE", "/admin/api/v1/connections/-1", "", "", 422},
		{"metrics", "GET", "/metrics", "", "", 200},
		{"not ready", "GET", "/healthz", "", "", 503},
	}
	h := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer h.CloseIdleConnections()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://gateway"+tt.url, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if tt.typ != "" {
				req.Header.Set("Content-Type", tt.typ)
			}
			resp, err := h.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status {
				t.Errorf("%d %s, %v", resp.StatusCode, b, err)
			}
			if allow := resp.Header.Get("Allow"); (resp.StatusCode == http.StatusMethodNotAllowed) != (allow == "GET") {
				t.Errorf("%d, with %q allowed", resp.StatusCode, allow)
			}
			if strings.Contains(string(b), secret) {
				t.Errorf("the answer repeats the input: %s", b)
			}
		})
	}
	if strings.Contains(w.log.String(), secret) {
		t.Errorf("the log has the secret: %s", w.log)
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	w.SetState(admin.Serving)
	if w.State() != admin.Serving || admin.Draining.String() != "draining" || admin.Starting.String() != "starting" {
		t.Error(w.State())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &admin.Server{Service: w.Service, Metrics: prometheus.NewRegistry()}
	done := make(chan error, 1)
	go func() { done <- s.ServeMetrics(ctx, ln) }()
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 200, "/admin/api/v1/status": 404} {
		resp, err := http.Get("http://" + ln.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestBackup(t *testing.T) {
	w := newWorld(t)
	c, _ := serve(t, w)
	w.mail.deliver(t, w.account(t, "alice@example.org").ID)
	var b bytes.Buffer
	if err := c.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil || len(content) == 0 || f.Name == admin.BackupMailName && !bytes.Contains(content, []byte(letter)) {
			t.Errorf("%s holds %d bytes, %v", f.Name, len(content), err)
		}
	}
	if got := strings.Join(names, " "); got != "posthorn.json store mail" {
		t.Errorf("parts: %s", got)
	}
}

// A backup that breaks off is an error to the client, never a short file.
func TestBackupBreaksOff(t *testing.T) {
	w := newWorld(t)
	w.Mail = brokenMail{w.mail}
	c, _ := serve(t, w)
	var b bytes.Buffer
	if err := c.Backup(t.Context(), &b); err == nil {
		t.Fatal("no error")
	}
	if _, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len())); err == nil {
		t.Error("what came looks whole")
	}
}

type brokenMail struct{ *mail }

func (brokenMail) Backup(_ context.Context, w io.Writer) error {
	if _, err := io.CopyN(w, zeros{}, 1<<20); err != nil {
		return err
	}
	return errors.New("disk on fire")
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	ln, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if _, err := admin.Listen(path); !errors.Is(err, admin.ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as if it were killed
	ln.Close()
	ln, err = admin.Listen(path)
	if err != nil {
		t.Fatalf("over the remains: %v", err)
	}
	ln.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Listen(file); err == nil {
		t.Error("a file was replaced")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if _, err := admin.Listen(filepath.Join(dir, strings.Repeat("x", 200))); !errors.Is(err, admin.ErrSocketPath) {
		t.Errorf("a long path: %v", err)
	}
}

// Neither a client that does not finish its request nor an operation without
// end holds up the end for long; and when the end has come, no request is under
// way.
func TestServeEnds(t *testing.T) {
	w := newWorld(t)
	w.account(t, "alice@example.org")
	endless := &endlessMail{mail: w.mail, began: make(chan struct{})}
	w.Mail = endless
	path := filepath.Join(t.TempDir(), "s")
	ln, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &admin.Server{Service: w.Service, Metrics: prometheus.NewRegistry(), Log: zerolog.Nop(), Grace: 50 * time.Millisecond}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	for _, request := range []string{
		"POST /admin/api/v1/accounts HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"GET /admin/api/v1/accounts/alice@example.org HTTP/1.1\r\nHost: gateway\r\n\r\n",
	} {
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		io.WriteString(nc, request)
	}
	<-endless.began
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !endless.over.Load() {
		t.Error("a request is still under way")
	}
}

// endlessMail counts until nobody wants to know any more.
type endlessMail struct {
	*mail
	began chan struct{}
	over  atomic.Bool
}

func (m *endlessMail) Usage(ctx context.Context, _ string) (int64, int, error) {
	close(m.began)
	<-ctx.Done()
	m.over.Store(true)
	return 0, 0, ctx.Err()
}
