package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"context"

	"posthorn/await"
	"posthorn/backend/backendtest"
)

// visitor is somebody with cookies and a hand-made browser.
type visitor struct {
	g *gateway
	*http.Client
	header http.Header // of every request
	host   string
}

// visitor shows the key in pemFile, if there is one, to host.
func (g *gateway) visitor(host, pemFile string) *visitor {
	g.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		g.t.Fatal(err)
	}
	config := g.tlsConfig(pemFile)
	config.ServerName = host
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, g.shared)
		}}
	g.t.Cleanup(transport.CloseIdleConnections)
	v := &visitor{g: g, host: host, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}}
	v.Client = &http.Client{Transport: transport, Jar: jar, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return v
}

// ask sends a request; form nil is a GET.
func (v *visitor) ask(path string, form url.Values) (*http.Response, string) {
	v.g.t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	r, err := http.NewRequest(method, "https://"+net.JoinHostPort(v.host, port(v.g.shared))+path, body)
	if err != nil {
		v.g.t.Fatal(err)
	}
	r.Header = v.header.Clone()
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.Do(r)
	if err != nil {
		v.g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		v.g.t.Fatal(err)
	}
	return resp, string(b)
}

func (v *visitor) signIn(address, password string) int {
	v.g.t.Helper()
	resp, _ := v.ask("/account/sign-in", url.Values{"address": {address}, "password": {password}})
	return resp.StatusCode
}

// in reports whether the visitor is signed in.
func (v *visitor) in() bool {
	v.g.t.Helper()
	resp, _ := v.ask("/account/", nil)
	return resp.StatusCode == http.StatusOK
}

func (v *visitor) want(status int, path string, form url.Values) string {
	v.g.t.Helper()
	resp, body := v.ask(path, form)
	if resp.StatusCode != status {
		v.g.t.Errorf("%s %v: %d, want %d", path, form, resp.StatusCode, status)
	}
	return body
}

// Refusals look the same whatever their reason, and lead nowhere.
func TestAccountRefusals(t *testing.T) {
	g := newGateway(t, "limits:\n  password_failures: 1000\n")
	g.account(ann)
	disabled := g.account("off@localhost")
	g.posthorn("account", "disable", "off@localhost")
	g.posthorn("account", "add", "keys@localhost", "--no-password")
	first := ""
	for _, who := range [][2]string{
		{ann, "wrong"}, {"nobody@localhost", "wrong"}, {"off@localhost", disabled}, {"keys@localhost", "wrong"}, {"no address", "x"},
		{"", ""}, {ann, ""}, {ann, strings.Repeat("x", 10_000)}, {strings.Repeat("x", 10_000) + "@localhost", "x"}, {ann + "\x00", "x"},
		{`"><script>alert(1)</script>@localhost`, "x"}, {ann, "\xff\x00"},
	} {
		v := g.visitor("localhost", "")
		resp, body := v.ask("/account/sign-in", url.Values{"address": {who[0]}, "password": {who[1]}})
		if strings.Contains(body, "<script>") {
			t.Errorf("%.30q comes back as it is", who[0])
		}
		body = regexp.MustCompile(`value="[^"]*"`).ReplaceAllString(body, "")
		if first == "" {
			first = body
		}
		if resp.StatusCode != 403 || body != first || v.in() {
			t.Errorf("%.30q: %d, or another page", who, resp.StatusCode)
		}
	}
}

// A source that guesses is refused with the right password too, and cannot tell.
func TestAccountThrottled(t *testing.T) {
	g := newGateway(t, "")
	password := g.account(ann)
	for range 12 {
		g.visitor("localhost", "").signIn(ann, "wrong")
	}
	v := g.visitor("localhost", "")
	if status := v.signIn(ann, password); status != 403 || v.in() {
		t.Errorf("the right password after 12 wrong ones: %d", status)
	}
	g.posthorn("block", "remove", "127.0.0.1")
	if status := v.signIn(ann, password); status != 303 || !v.in() {
		t.Errorf("unblocked: %d", status)
	}
}

// What other sites cause, and what other accounts ask for, does not happen.
func TestAccountForged(t *testing.T) {
	g := newGateway(t, "")
	password, other := g.account(ann), g.account("eve@localhost")
	v, eve := g.visitor("localhost", ""), g.visitor("localhost", "")
	if v.signIn(ann, password) != 303 || eve.signIn("eve@localhost", other) != 303 {
		t.Fatal("not signed in")
	}
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(v.want(200, "/account/security", nil))[1]

	for _, site := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"https://evil.example"}}, {"Origin": {"null"}},
		{"Origin": {"https://localhost"}}, // another port
	} {
		forged := *v
		forged.header = site
		for _, path := range []string{"/account/sign-in", "/account/sign-in/key", "/account/sign-out", "/account/activity/connection",
			"/account/security/password", "/account/security/session", "/account/security/sessions", "/account/passkey/sign-in/begin",
			"/account/passkey/sign-in/finish", "/account/passkey/register/begin", "/account/passkey/register/finish",
			"/account/passkey/rename", "/account/passkey/remove"} {
			forged.want(403, path, url.Values{"id": {id}})
		}
	}
	if !v.in() {
		t.Fatal("a forged request signed out")
	}

	session := imapClient(g.dial("", "imap"))
	if err := session.Login(ann, password).Wait(); err != nil {
		t.Fatal(err)
	}
	conn := regexp.MustCompile(`name="id" value="(\d+)"`).FindStringSubmatch(v.want(200, "/account/activity", nil))[1]
	eve.want(404, "/account/security/session", url.Values{"id": {id}})
	eve.want(404, "/account/activity/connection", url.Values{"id": {conn}})
	for _, bad := range []string{"", "-1", "x", strings.Repeat("9", 10_000), "\x00", "../" + id, "1/2"} {
		eve.want(404, "/account/security/session", url.Values{"id": {bad}})
		eve.want(404, "/account/passkey/remove", url.Values{"id": {bad}})
		eve.want(404, "/account/passkey/rename", url.Values{"id": {bad}, "name": {"<b>"}})
	}
	eve.want(400, "/account/activity/connection", url.Values{"id": {"x"}})
	eve.want(413, "/account/security/password", url.Values{"old": {strings.Repeat("x", 70_000)}})
	eve.want(400, "/account/security/../../etc/passwd", nil)
	if !v.in() || session.Noop().Wait() != nil {
		t.Error("another account ended a session or a connection")
	}
	if status := v.signIn(ann, password); status != 303 {
		t.Errorf("signing in anew: %d", status)
	}
}

// After signing in one is on a page of the gateway, wherever a link wanted to lead.
func TestAccountOpenRedirect(t *testing.T) {
	g := newGateway(t, "")
	password := g.account(ann)
	for next, want := range map[string]string{
		"/account/security": "/account/security", "/account/activity?x=1": "/account/activity?x=1", "": "/account/",
		"https://evil.example/account/": "/account/", "//evil.example/account/": "/account/", "/\\evil.example": "/account/",
		"/account/..//evil.example": "/account/", "/account//evil": "/account/", "javascript:alert(1)": "/account/",
		"/account/sign-out": "/account/", "/account/\r\nX: y": "/account/", "/account/%0d%0aX:y": "/account/", "/healthz": "/account/",
		"/account/" + strings.Repeat("x", 600): "/account/", "/account/@evil.example": "/account/@evil.example",
	} {
		v := g.visitor("localhost", "")
		resp, _ := v.ask("/account/sign-in", url.Values{"address": {ann}, "password": {password}, "next": {next}})
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("next %.40q leads to %q", next, got)
		}
		resp, _ = v.ask("/account/sign-in?next="+url.QueryEscape(next), nil)
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("signed in, next %.40q leads to %q", next, got)
		}
	}
}

// A session ends when its account is disabled, its password changed or it is signed
// out, at once; and enabling the account does not bring it back.
func TestAccountSessionEnds(t *testing.T) {
	g := newGateway(t, "web:\n  session_idle: 1m\n")
	password := g.account(ann)
	v, w := g.visitor("localhost", ""), g.visitor("localhost", "")
	v.signIn(ann, password)
	g.posthorn("account", "disable", ann)
	resp, _ := v.ask("/account/security", nil)
	if resp.StatusCode != 303 {
		t.Errorf("disabled: %d", resp.StatusCode)
	}
	if status := w.signIn(ann, password); status != 403 {
		t.Errorf("disabled, and signed in: %d", status)
	}
	g.posthorn("account", "enable", ann)
	if v.in() {
		t.Error("enabling the account brings its session back")
	}

	v.signIn(ann, password)
	w.signIn(ann, password)
	g.posthornIn("another password\n", "account", "password", ann, "--password-stdin")
	if v.in() || w.in() {
		t.Error("a session outlives its password")
	}
	v.signIn(ann, "another password")
	w.signIn(ann, "another password")
	for _, who := range []*visitor{v, w} {
		_, body := who.ask("/account/security", nil)
		if own, other := strings.Index(body, "this browser"), strings.Index(body, "</h3>"); own < 0 || own > other {
			t.Error("this browser does not stand first")
		}
	}
	cookies := v.Jar.Cookies(&url.URL{Scheme: "https", Host: "localhost", Path: "/"})
	resp, _ = v.ask("/account/sign-out", url.Values{})
	if resp.StatusCode != 303 || v.in() || !w.in() {
		t.Errorf("signed out: %d, in %t; another browser in %t", resp.StatusCode, v.in(), w.in())
	}
	thief := g.visitor("localhost", "")
	thief.Jar.SetCookies(&url.URL{Scheme: "https", Host: "localhost"}, cookies)
	if thief.in() {
		t.Error("the cookie works after signing out")
	}
	w.want(303, "/account/security/sessions", url.Values{})
	if w.in() {
		t.Error("signed out everywhere, and in")
	}
	if trail := g.posthorn("audit", "--json"); !regexp.MustCompile(`"action": "session end",[^}]*"from": "127\.0\.0\.1"`).MatchString(trail) {
		t.Errorf("the trail does not say from where: %s", trail)
	}
}

// What browsers are told on every page, and how much that is.
func TestAccountHeaders(t *testing.T) {
	g := newGateway(t, "")
	password := g.account(ann)
	v := g.visitor("localhost", "")
	resp, _ := v.ask("/account/sign-in", url.Values{"address": {ann}, "password": {password}})
	cookie := resp.Header.Get("Set-Cookie")
	for _, part := range []string{"__Host-posthorn=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(cookie, part) || strings.Contains(cookie, "Domain") {
			t.Errorf("cookie %q is without %s", cookie, part)
		}
	}
	for _, path := range []string{"/account/", "/account/activity", "/account/security", "/account/none"} {
		resp, body := v.ask(path, nil)
		h := resp.Header
		policy := h.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") ||
			!strings.Contains(policy, "form-action 'self'") || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("X-Frame-Options") != "DENY" || h.Get("Cross-Origin-Opener-Policy") != "same-origin" {
			t.Errorf("%s: %v", path, h)
		}
		weight := len(body)
		for _, m := range regexp.MustCompile(`(?:href|src)="(/account/assets/[^"]+)"`).FindAllStringSubmatch(body, -1) {
			asset, content := v.ask(m[1], nil)
			if asset.StatusCode != 200 || !strings.Contains(asset.Header.Get("Cache-Control"), "immutable") {
				t.Errorf("%s: %d %v", m[1], asset.StatusCode, asset.Header)
			}
			weight += len(content)
		}
		if weight > 100<<10 {
			t.Errorf("%s weighs %d bytes", path, weight)
		}
	}
}

// A key signs in on the host names that ask for one, as long as it is allowed to.
func TestAccountByKey(t *testing.T) {
	g := newGateway(t, "web:\n  ask_certificate: [keys.localhost]\n")
	g.account(ann)
	pemFile := g.key(ann, "phone")
	mailOnly := g.key(ann, "mail", "--scope", "imap")

	here := g.visitor("localhost", pemFile)
	if body := here.want(200, "/account/sign-in", nil); !strings.Contains(body, "https://keys.localhost:"+port(g.shared)+"/account/sign-in") {
		t.Errorf("no way to the name that asks for keys:\n%s", body)
	}
	here.want(403, "/account/sign-in/key", url.Values{}) // it is not asked for here, so nothing is shown

	v := g.visitor("keys.localhost", pemFile)
	if v.in() {
		t.Error("a key alone is a session")
	}
	v.want(303, "/account/sign-in/key", url.Values{"next": {"/account/activity"}})
	if body := v.want(200, "/account/security", nil); !strings.Contains(body, "by key") {
		t.Errorf("not by key:\n%s", body)
	}
	g.visitor("keys.localhost", mailOnly).want(403, "/account/sign-in/key", url.Values{})
	g.visitor("keys.localhost", "").want(403, "/account/sign-in/key", url.Values{})

	keys := g.posthorn("key", "list", ann)
	for _, f := range regexp.MustCompile(`SHA256:[\w-]{43}`).FindAllString(keys, -1) {
		g.posthorn("key", "remove", f)
	}
	if v.in() {
		t.Error("a session outlives the key that opened it")
	}
}

// The pages are on the hosts that have them, and the paths are the site's elsewhere.
func TestAccountHosts(t *testing.T) {
	g := newGateway(t, "tls:\n  names: [www.localhost]\nweb:\n  hosts: [mail.localhost]\n")
	g.visitor("mail.localhost", "").want(200, "/account/sign-in", nil)
	g.visitor("www.localhost", "").want(404, "/account/sign-in", nil)
	off := newGateway(t, "web:\n  account: false\n")
	off.visitor("localhost", "").want(404, "/account/sign-in", nil)
}

// A password that the mail system keeps signs in, by a conversation that then ends.
func TestAccountPasswordBehind(t *testing.T) {
	say := backendtest.Say
	server := backendtest.StartScript(t, backendtest.Script{
		Greet: []backendtest.Act{say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")},
		Rules: []backendtest.Rule{
			{Line: `(\S+) AUTHENTICATE PLAIN ` + regexp.QuoteMeta(base64Of("\x00"+ann+"\x00secret")), Do: []backendtest.Act{say("$1 OK [CAPABILITY IMAP4rev1] in\r\n")}},
			{Line: `(\S+) (LOGIN|AUTHENTICATE) .*`, Do: []backendtest.Act{say("$1 NO [AUTHENTICATIONFAILED] no\r\n")}},
			{Line: `(\S+) .*`, Do: []backendtest.Act{say("$1 OK done\r\n")}},
		},
	})
	g := newGateway(t, behind(t, mailSystem{imap: part{"addresses": []string{server.Address}}}))
	v := g.visitor("localhost", "")
	if status := v.signIn(ann, "wrong"); status != 403 {
		t.Errorf("wrong password: %d", status)
	}
	if status := v.signIn(ann, "secret"); status != 303 {
		t.Fatalf("right password: %d", status)
	}
	if body := v.want(200, "/account/security", nil); !strings.Contains(body, "Your mail system keeps your password") {
		t.Errorf("%s", body)
	}
	v.want(422, "/account/security/password", url.Values{"new": {"12345678"}, "again": {"12345678"}})
	await.Within(t, 5*time.Second, "no conversation is open", func() bool { return server.Open() == 0 })
	if n := strings.Count(fmt.Sprint(server.Lines()), "AUTHENTICATE"); n != 2 {
		t.Errorf("%d logins reached the server", n)
	}
}
