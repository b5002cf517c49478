package backend_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/backend"
	"posthorn/backend/backendtest"
	"posthorn/backend/upstream"
)

const (
	alice    = "alice@example.org"
	password = `pass "word\`
)

// What a Dovecot says, and what the client hears of that.
const (
	greeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN AUTH=EXTERNAL] ready\r\n"
	loggedIn = "p2 OK [CAPABILITY IMAP4rev1 SASL-IR IDLE STARTTLS AUTH=PLAIN LOGINDISABLED UNAUTHENTICATE XDELTAPUSH] Logged in\r\n"
	offered  = "IMAP4rev1 SASL-IR IDLE XDELTAPUSH"
)

var (
	byMaster  = "p2 AUTHENTICATE PLAIN " + b64(alice, "gateway", "secret")
	byOwnWord = "p2 AUTHENTICATE PLAIN " + b64("", alice, password)
)

func b64(parts ...string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(parts, "\x00")))
}

// dialog is a server that greets, and answers lines: each is followed by its
// answer. After them it answers NOOP.
func dialog(greeting string, linesAndAnswers ...string) backendtest.Script {
	s := backendtest.Script{Greet: []backendtest.Act{backendtest.Say(greeting)}}
	for pair := range slices.Chunk(linesAndAnswers, 2) {
		s.Rules = append(s.Rules, backendtest.Rule{Line: regexp.QuoteMeta(pair[0]), Do: []backendtest.Act{say(pair[1])}})
	}
	s.Rules = append(s.Rules,
		backendtest.Rule{Line: `(\S+) NOOP`, Do: []backendtest.Act{backendtest.Say("$1 OK done\r\n")}},
		backendtest.Rule{Line: `(\S+) LOGOUT`, Do: []backendtest.Act{backendtest.Close()}})
	return s
}

// say sends text as it is.
func say(text string) backendtest.Act {
	return func(c *backendtest.ScriptConn) error {
		_, err := io.WriteString(c, text)
		return err
	}
}

// proxy returns a Proxy whose IMAP server is at an address.
func proxy(t testing.TB, address string, edit ...func(*backend.ProxyConfig)) *backend.Proxy {
	t.Helper()
	c := backend.ProxyConfig{
		Name: "mail", KeepsPasswords: true, Log: zerolog.Nop(),
		IMAP: &backend.Server{Upstream: upstream.Config{Addresses: []string{address}}},
	}
	for _, e := range edit {
		e(&c)
	}
	p, err := backend.NewProxy(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func master(c *backend.ProxyConfig) {
	c.IMAP.Method, c.IMAP.User, c.IMAP.Password = backend.Master, "gateway", "secret"
}

// hasty keeps tests of silence short.
func hasty(c *backend.ProxyConfig) {
	c.IMAP.Upstream.Timeout, c.IMAPLoginTimeout = 100*time.Millisecond, 100*time.Millisecond
}

func clientOf(names ...string) *backend.Client {
	return &backend.Client{
		ID: 7, Names: names,
		Remote: netip.MustParseAddrPort("192.0.2.7:4711"), Local: netip.MustParseAddrPort("[2001:db8::1]:443"),
	}
}

func loginOf(address string) *accounts.Login {
	return &accounts.Login{Account: &accounts.Account{ID: "1", Addresses: []string{address}}, Address: address}
}

// open opens a session without the user's password.
func open(t testing.TB, p backend.Backend) (backend.IMAPSession, error) {
	return p.OpenIMAP(t.Context(), loginOf(alice), clientOf())
}

// openKept opens one with it, as a handler does for somebody without a record.
func openKept(t testing.TB, p backend.Backend, address, password string) (backend.IMAPSession, error) {
	c := clientOf()
	opened, err := p.Passwords(backend.IMAP, c).Login(t.Context(), address, nil, password)
	if err != nil {
		return nil, err
	}
	l := loginOf(address)
	l.Opened = opened
	return p.OpenIMAP(t.Context(), l, c)
}

// verify serves a session to a client, who gets head and then what a dialog
// answers.
func verify(t testing.TB, s backend.IMAPSession, head string) {
	t.Helper()
	if got := s.Capabilities(); got != offered {
		t.Errorf("capabilities %q, want %q", got, offered)
	}
	client, gateway := net.Pipe()
	client.SetDeadline(time.Now().Add(5 * time.Second))
	var served sync.WaitGroup
	served.Go(func() {
		_ = s.Serve(context.Background(), gateway)
		gateway.Close()
	})
	served.Go(func() { _, _ = io.WriteString(client, "a NOOP\r\n") })
	got := make([]byte, len(head+"a OK done\r\n"))
	if n, err := io.ReadFull(client, got); err != nil || string(got) != head+"a OK done\r\n" {
		t.Errorf("the client got %q, %v; want %q first", got[:n], err, head)
	}
	client.Close()
	served.Wait()
}

func TestIMAPLogins(t *testing.T) {
	const old = "* OK ready\r\n"
	const capability = "p3 CAPABILITY"
	offers := func(capabilities string) string { return "* OK [CAPABILITY " + capabilities + "] ready\r\n" }
	asMaster := "p2 AUTHENTICATE PLAIN "
	for _, tt := range []struct {
		name   string
		edit   func(*backend.ProxyConfig) // nil: with the user's password
		script backendtest.Script
		head   string
	}{
		{name: "password", script: dialog(greeting, byOwnWord, loggedIn)},
		{name: "password, asked for", script: dialog(offers("IMAP4rev1 AUTH=PLAIN"),
			"p2 AUTHENTICATE PLAIN", "+ \r\n", b64("", alice, password), loggedIn)},
		{name: "password, asked for with a bare plus", script: dialog(offers("AUTH=PLAIN"),
			"p2 AUTHENTICATE PLAIN", "+\r\n", b64("", alice, password), loggedIn)},
		{name: "LOGIN", script: dialog(old, capability, "* CAPABILITY IMAP4rev1\r\np3 OK done\r\n",
			`p2 LOGIN "alice@example.org" "pass \"word\\"`, loggedIn)},
		{name: "master", edit: master, script: dialog(greeting, byMaster, loggedIn)},
		{name: "master by continuation", edit: master, script: dialog(offers("AUTH=PLAIN"),
			"p2 AUTHENTICATE PLAIN", "+ \r\n", b64(alice, "gateway", "secret"), loggedIn)},
		{name: "master-separator", edit: func(c *backend.ProxyConfig) { master(c); c.IMAP.Method = backend.MasterSeparator },
			script: dialog(greeting, asMaster+b64("", alice+"*gateway", "secret"), loggedIn)},
		{name: "separator of another kind", edit: func(c *backend.ProxyConfig) {
			master(c)
			c.IMAP.Method, c.IMAP.Separator = backend.MasterSeparator, "%"
		}, script: dialog(greeting, asMaster+b64("", alice+"%gateway", "secret"), loggedIn)},
		{name: "local part", edit: func(c *backend.ProxyConfig) { master(c); c.LocalDomain = "example.org" },
			script: dialog(greeting, asMaster+b64("alice", "gateway", "secret"), loggedIn)},
		{name: "capabilities before the answer", edit: master, script: dialog(greeting,
			byMaster, "* CAPABILITY IMAP4rev1 OLD\r\np2 OK in\r\n", capability, "* CAPABILITY IMAP4rev1 SASL-IR IDLE XDELTAPUSH\r\np3 OK\r\n")},
		{name: "capabilities behind the greeting", edit: master, script: dialog(greeting+"* CAPABILITY IMAP4rev1 OLD\r\n",
			byMaster, "p2 OK in\r\n", capability, "* CAPABILITY IMAP4rev1 SASL-IR IDLE XDELTAPUSH\r\np3 OK\r\n")},
		{name: "literals behind the answer", edit: master, script: dialog(greeting, byMaster, "p2 OK in\r\n",
			capability, "* X ({3}\r\na\r\n {0}\r\n)\r\n* CAPABILITY IMAP4rev1 SASL-IR IDLE XDELTAPUSH\r\np3 OK\r\n"),
			head: "* X ({3}\r\na\r\n {0}\r\n)\r\n"},
		{name: "capabilities asked for", edit: master,
			script: dialog(greeting, byMaster, "p2 OK in\r\n", capability, "* OK [ALERT] hi\r\n* CAPABILITY IMAP4rev1 SASL-IR IDLE XDELTAPUSH\r\np3 OK\r\n* BYE\r\n"),
			head:   "* OK [ALERT] hi\r\n* BYE\r\n"},
		{name: "lower case", edit: master, script: dialog(offers("imap4rev1 sasl-ir auth=plain"),
			byMaster, "p2 ok [capability IMAP4rev1 SASL-IR IDLE auth=x starttls XDELTAPUSH]\r\n")},
		{name: "more behind the answer", edit: master,
			script: dialog(greeting, byMaster, loggedIn+"* OK more\r\n* 1 EXISTS\r\n"), head: "* OK more\r\n* 1 EXISTS\r\n"},
		{name: "literals before the answer", edit: master,
			script: dialog(greeting, byMaster, "* ID (\"x\" {7}\r\np2 NO\r\n \"y\" {3}\r\nabc)\r\n"+loggedIn)},
		{name: "no literal before the answer", edit: master,
			script: dialog(greeting, byMaster, "* OK {100}\r\n* FLAGS ()\r\n* NO [ALERT] full\r\n"+loggedIn)},
		{name: "capabilities twice", edit: master, script: dialog(greeting, byMaster, "* CAPABILITY X\r\n"+loggedIn)},
		{name: "byte by byte", edit: master, script: backendtest.Script{
			Greet: []backendtest.Act{backendtest.Drip(greeting, time.Microsecond)},
			Rules: []backendtest.Rule{
				{Line: "p2 .*", Do: []backendtest.Act{backendtest.Drip(loggedIn, time.Microsecond)}},
				{Line: "a NOOP", Do: []backendtest.Act{backendtest.Say("a OK done\r\n")}},
			},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := backendtest.StartScript(t, tt.script)
			var session backend.IMAPSession
			var err error
			if tt.edit == nil {
				session, err = openKept(t, proxy(t, s.Address), alice, password)
			} else {
				session, err = open(t, proxy(t, s.Address, tt.edit))
			}
			if err != nil {
				t.Fatal(err)
			}
			verify(t, session, tt.head)
			if s.Accepted() != 1 {
				t.Errorf("%d connections", s.Accepted())
			}
		})
	}
}

// Strings that cannot be quoted go as literals.
func TestIMAPLoginLiterals(t *testing.T) {
	for _, tt := range []struct{ offer, password string }{
		{"IMAP4rev1", "p\u00e4ss"}, {"IMAP4rev1 LITERAL+", "p\u00e4ss"}, {"IMAP4rev1 LITERAL-", strings.Repeat("x", 600)},
	} {
		size := len(tt.password)
		lines := []string{`p2 LOGIN "` + alice + `" {` + strconv.Itoa(size) + "}", "+ go\r\n", tt.password, loggedIn}
		if strings.Contains(tt.offer, "LITERAL") {
			lines = []string{`p2 LOGIN "` + alice + `" {` + strconv.Itoa(size) + "+}", "", tt.password, loggedIn}
		}
		s := backendtest.StartScript(t, dialog("* OK [CAPABILITY "+tt.offer+"] ready\r\n", lines...))
		session, err := openKept(t, proxy(t, s.Address), alice, tt.password)
		if err != nil {
			t.Errorf("%s: %v", tt.offer, err)
			continue
		}
		verify(t, session, "")
	}
}

// Whoever has an account is known by its primary address, however it logs in.
func TestIMAPUserName(t *testing.T) {
	s := backendtest.StartScript(t, dialog(greeting, byOwnWord, loggedIn))
	p := proxy(t, s.Address)
	a := &accounts.Account{ID: "1", Addresses: []string{alice, "al@example.org"}}
	opened, err := p.Passwords(backend.IMAP, clientOf()).Login(t.Context(), "al@example.org", a, password)
	if err != nil {
		t.Fatal(err)
	}
	opened.Close()
}

// A name that makes its user a master user is refused, unheard.
func TestIMAPSeparatorInName(t *testing.T) {
	s := backendtest.StartScript(t, dialog(greeting))
	p := proxy(t, s.Address, master, func(c *backend.ProxyConfig) { c.LocalDomain = "example.org" })
	if _, err := openKept(t, p, "alice*gateway@example.org", "secret"); !errors.Is(err, accounts.ErrWrongPassword) {
		t.Errorf("by password: %v", err)
	}
	if _, err := p.OpenIMAP(t.Context(), loginOf("alice*gateway@example.org"), clientOf()); err == nil {
		t.Error("logged in without the password")
	}
	if s.Accepted() != 0 {
		t.Error("the server was asked")
	}
}

func TestIMAPTellsOfClient(t *testing.T) {
	inform := func(c *backend.ProxyConfig) { c.IMAP.Inform = true }
	names := []string{
		"name", `Delta "Chat"`, "X-Originating-IP", "203.0.113.1", "x-forward-x", "1", "vendor", "\u00fc", "", "x",
		strings.Repeat("n", 31), "x", "version", strings.Repeat("v", 300), "os", "NIL",
	}
	s := backendtest.StartScript(t, dialog(greeting, byMaster, loggedIn, "p1 ID (", ""),
		backendtest.Script{Greet: []backendtest.Act{say(greeting)}, Rules: []backendtest.Rule{
			{Line: `p1 ID \(.*\)`, Do: []backendtest.Act{say("* ID (\"name\" \"Dovecot\")\r\n* CAPABILITY IMAP4rev1\r\np1 BAD no\r\n")}},
			{Line: "p2 .*", Do: []backendtest.Act{say(loggedIn)}},
			{Line: "a NOOP", Do: []backendtest.Act{say("a OK done\r\n")}},
		}},
		dialog("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n", byMaster, loggedIn))
	for i, edits := range [][]func(*backend.ProxyConfig){{master}, {master, inform}, {master, inform}} {
		session, err := proxy(t, s.Address, edits...).OpenIMAP(t.Context(), loginOf(alice), clientOf(names...))
		if err != nil {
			t.Fatal(i, err)
		}
		verify(t, session, "")
	}
	var ids []string
	for _, line := range s.Lines() {
		if strings.HasPrefix(line, "p1") {
			ids = append(ids, line)
		}
	}
	want := regexp.MustCompile(`^p1 ID \("x-originating-ip" "192\.0\.2\.7" "x-originating-port" "4711" ` +
		`"x-connected-ip" "2001:db8::1" "x-connected-port" "443" "x-session-id" "7\.[0-9a-z]+" "name" "Delta \\"Chat\\"" "os" "NIL"\)$`)
	if len(ids) != 1 || !want.MatchString(ids[0]) {
		t.Errorf("the server heard %q", ids)
	}
}

// outcomes of a login
func wrong(err error) bool   { return errors.Is(err, accounts.ErrWrongPassword) }
func refused(err error) bool { return errors.Is(err, backend.ErrRefused) && !wrong(err) }
func unavailable(err error) bool {
	return err != nil && !wrong(err) && !errors.Is(err, backend.ErrRefused) && !errors.As(err, new(*goimap.Error))
}
func answer(code, text string) func(error) bool {
	return func(err error) bool {
		var e *goimap.Error
		return errors.As(err, &e) && string(e.Code) == code && e.Text == text && !wrong(err)
	}
}

func TestIMAPRefusals(t *testing.T) {
	for _, tt := range []struct {
		answer           string
		password, master func(error) bool
	}{
		{"p2 NO [AUTHENTICATIONFAILED] Authentication failed.", wrong, refused},
		{"p2 no [authenticationfailed] no", wrong, refused},
		{"p2 NO [AUTHORIZATIONFAILED] no", wrong, refused},
		{"p2 NO no", wrong, refused},
		{"p2 NO", wrong, refused},
		{"p2 NO [UNAVAILABLE] later", answer("UNAVAILABLE", "later"), answer("UNAVAILABLE", "later")},
		{"p2 NO [LIMIT] too \x1bmany", answer("LIMIT", "too ?many"), answer("LIMIT", "too ?many")},
		{"p2 NO [EXPIRED] old", answer("EXPIRED", "old"), refused},
		{"p2 NO [PRIVACYREQUIRED] TLS", answer("PRIVACYREQUIRED", "TLS"), refused},
		{"p2 NO [CONTACTADMIN] call", answer("CONTACTADMIN", "call"), answer("CONTACTADMIN", "call")},
		{"p2 NO [INUSE] wait", answer("INUSE", "wait"), answer("INUSE", "wait")},
		{"p2 NO [REFERRAL imap://Other/] there", answer("REFERRAL imap://Other/", "there"), answer("REFERRAL imap://Other/", "there")},
		{"* BYE [UNAVAILABLE] later", answer("UNAVAILABLE", "later"), answer("UNAVAILABLE", "later")},
		{"* BYE [AUTHENTICATIONFAILED] no", unavailable, unavailable},
		{"* BYE no", unavailable, unavailable},
		{"p2 BAD what?", unavailable, unavailable},
		{"p2 NO [OPEN", unavailable, unavailable},
		{"p2 PREAUTH hm", unavailable, unavailable},
		{"p2", unavailable, unavailable},
		{"+ more?", unavailable, unavailable},
		{"p9 OK who?", unavailable, unavailable},
		{"p0 OK who?", unavailable, unavailable},
		{"", unavailable, unavailable},
		{"*", unavailable, unavailable},
		{"HTTP/1.1 400 Bad Request", unavailable, unavailable},
		{"* OK a\x00b", unavailable, unavailable},
		{"* OK a\rb", unavailable, unavailable},
		{"* OK\n* OK", unavailable, unavailable},
		{"* ID (\"a\" {5000}", unavailable, unavailable},
		{"* ID (\"a\" {-1}", unavailable, unavailable},
		{"* ID (\"a\" {18446744073709551617}", unavailable, unavailable},
		{"p2 OK\r\np3 BAD no capabilities", unavailable, unavailable},
		{"p2 OK\r\np3 OK no capabilities", unavailable, unavailable},
	} {
		for name, is := range map[string]func(error) bool{"password": tt.password, "master": tt.master} {
			s := backendtest.StartScript(t, dialog(greeting, byMaster, tt.answer+"\r\n", byOwnWord, tt.answer+"\r\n", "p3 CAPABILITY", ""))
			p := proxy(t, s.Address, master)
			var err error
			if name == "password" {
				_, err = openKept(t, p, alice, password)
			} else {
				_, err = open(t, p)
			}
			if !is(err) {
				t.Errorf("%q, %s: got %v", tt.answer, name, err)
			}
			if s.Accepted() != 1 {
				t.Errorf("%q, %s: %d connections", tt.answer, name, s.Accepted())
			}
		}
	}
}

// What a server repeats of the password is told to nobody.
func TestIMAPSecretsStay(t *testing.T) {
	for _, tt := range []string{
		"p2 NO [LIMIT] not with secret",
		"p2 NO [secret] no",
		"p2 BAD what is " + b64(alice, "gateway", "secret"),
		byMaster, // a server that echoes
	} {
		s := backendtest.StartScript(t, dialog(greeting, byMaster, tt+"\r\n"))
		_, err := open(t, proxy(t, s.Address, master))
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), b64(alice, "gateway", "secret")) {
			t.Errorf("%q: got %v", tt, err)
		}
	}
}
