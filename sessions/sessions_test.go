package sessions_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/accounts"
	"posthorn/accounts/accountstest"
	"posthorn/sessions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a gateway's accounts with their sessions.
type house struct {
	*sessions.Manager
	*accountstest.House
	t testing.TB
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{House: accountstest.New(t, accounts.Options{}), t: t}
	h.Manager = sessions.New(sessions.Config{Store: h.KV, Accounts: h.Accounts, Keys: h.Keys, Log: zerolog.Nop()})
	return h
}

// inHouse runs a test where waiting takes no time.
func inHouse(t *testing.T, test func(t *testing.T, h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newHouse(t)) })
}

const password = "a long password"

func (h *house) account(address string) *accounts.Account {
	h.t.Helper()
	return h.House.Account(address, password)
}

// browser is somebody's cookie, and what it led to.
type browser struct {
	h      *house
	cookie *http.Cookie
}

// request sends the cookie with a request that f serves, and keeps what comes back.
func (b *browser) request(f func(w http.ResponseWriter, r *http.Request)) *http.Response {
	b.h.t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "https://example.org/account/", nil)
	r.Header.Set("User-Agent", "Test/1.0 \x1b[31m\u202e"+strings.Repeat("x", 10_000))
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	b.h.Wrap(http.HandlerFunc(f)).ServeHTTP(w, r)
	resp := w.Result()
	for _, c := range resp.Cookies() {
		if c.Name == sessions.Cookie {
			b.cookie = c
			if c.MaxAge < 0 {
				b.cookie = nil
			}
		}
	}
	return resp
}

func (h *house) signIn(s sessions.Session) *browser {
	h.t.Helper()
	b := &browser{h: h}
	b.signIn(s)
	return b
}

func (b *browser) signIn(s sessions.Session) {
	b.h.t.Helper()
	b.request(func(w http.ResponseWriter, r *http.Request) {
		if err := b.h.SignIn(w, r, s); err != nil {
			b.h.t.Error(err)
		}
	})
}

// current returns the browser's session; nil: it has none.
func (b *browser) current() (current *sessions.Session) {
	b.h.t.Helper()
	b.request(func(_ http.ResponseWriter, r *http.Request) { current, _ = sessions.Current(r.Context()) })
	return current
}

func by(a *accounts.Account) sessions.Session {
	return sessions.Session{Account: a.ID, Address: a.Primary(), How: sessions.Password}
}

func TestSignIn(t *testing.T) {
	h := newHouse(t)
	a := h.account("ann@example.org")
	b := h.signIn(by(a))
	c := b.cookie
	if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie %v", c)
	}
	s := b.current()
	if s == nil || s.Account != a.ID || s.Owner.Primary() != "ann@example.org" || s.How != sessions.Password || s.Remote != "192.0.2.1" {
		t.Fatalf("%+v", s)
	}
	// People type IDs behind a command: none may look like one of its flags.
	if !regexp.MustCompile(`^[a-z2-7]{32}$`).MatchString(s.ID) {
		t.Errorf("its ID is %s", s.ID)
	}
	if !strings.HasPrefix(s.UserAgent, "Test/1.0 [31mxxx") || len(s.UserAgent) > 200 {
		t.Errorf("user agent %q", s.UserAgent)
	}
	for item, err := range h.KV.Scan(t.Context(), "") {
		if err != nil || strings.Contains(item.Key+string(item.Value), c.Value) {
			t.Errorf("the store holds the token under %s (%v)", item.Key, err)
		}
	}
	b.request(func(w http.ResponseWriter, r *http.Request) {
		if err := h.SignOut(w, r); err != nil {
			t.Error(err)
		}
	})
	if b.cookie != nil {
		t.Error("the cookie stays after signing out")
	}
	b.cookie = c
	if b.current() != nil {
		t.Error("the token works after signing out")
	}
}

// With privacy nothing tells where somebody was.
func TestPrivacy(t *testing.T) {
	h := newHouse(t)
	h.Manager = sessions.New(sessions.Config{Store: h.KV, Accounts: h.Accounts, Keys: h.Keys, Privacy: true})
	if s := h.signIn(by(h.account("ann@example.org"))).current(); s == nil || s.Remote != "" {
		t.Errorf("%+v", s)
	}
}

// A token that somebody has planted becomes nobody's, and the one before a sign-in
// is of no use after it.
func TestFixation(t *testing.T) {
	h := newHouse(t)
	a, eve := h.account("ann@example.org"), h.account("eve@example.org")
	for name, planted := range map[string]*http.Cookie{
		"made up":    {Name: sessions.Cookie, Value: strings.Repeat("A", 43)},
		"of another": h.signIn(by(eve)).cookie,
		"long":       {Name: sessions.Cookie, Value: strings.Repeat("A", 10_000)},
		"empty":      {Name: sessions.Cookie},
	} {
		b := &browser{h, planted}
		b.signIn(by(a))
		if b.cookie.Value == planted.Value {
			t.Errorf("%s: the token stays", name)
		}
		if s := b.current(); s == nil || s.Account != a.ID {
			t.Errorf("%s: %+v", name, s)
		}
		if s := (&browser{h, planted}).current(); s != nil {
			t.Errorf("%s: the planted token has session %+v", name, s)
		}
	}
	unprefixed := h.signIn(by(a)).cookie
	unprefixed.Name = "posthorn"
	if (&browser{h, unprefixed}).current() != nil {
		t.Error("a cookie without the prefix counts")
	}
}

func TestExpiry(t *testing.T) { inHouse(t, testExpiry) }

func testExpiry(t *testing.T, h *house) {
	a := h.account("ann@example.org")
	idle, busy := h.signIn(by(a)), h.signIn(by(a))
	for range 24 {
		time.Sleep(29*time.Minute + 30*time.Second)
		if busy.current() == nil {
			t.Fatal("a busy session ends")
		}
	}
	if cookie := idle.cookie; idle.current() != nil || idle.cookie != nil {
		t.Errorf("an idle session goes on: %v", cookie)
	}
	time.Sleep(20 * time.Minute)
	if busy.current() != nil {
		t.Error("a session outlives 12 hours")
	}
	if all, err := h.List(t.Context(), ""); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// Requests do not write to the store each time.
func TestSeenRarely(t *testing.T) { inHouse(t, testSeenRarely) }

func testSeenRarely(t *testing.T, h *house) {
	b := h.signIn(by(h.account("ann@example.org")))
	written := make(map[time.Time]bool)
	for range 119 {
		time.Sleep(time.Second)
		s := b.current()
		if s == nil || time.Since(s.LastSeen) > time.Minute {
			t.Fatalf("%+v", s)
		}
		written[s.LastSeen] = true
	}
	if len(written) != 2 { // at the sign-in, and a minute later
		t.Errorf("LastSeen was written %d times in two minutes", len(written))
	}
}

// A store that fails is not taken for nobody being signed in.
func TestUnavailable(t *testing.T) {
	h := newHouse(t)
	b := h.signIn(by(h.account("ann@example.org")))
	h.KV.Close()
	cookie := b.cookie
	resp := b.request(func(http.ResponseWriter, *http.Request) { t.Error("served") })
	if resp.StatusCode != 503 || b.cookie != cookie {
		t.Errorf("%d, cookie %v", resp.StatusCode, b.cookie)
	}
}

func BenchmarkWrap(b *testing.B) {
	h := newHouse(b)
	s := h.signIn(by(h.account("ann@example.org")))
	for b.Loop() {
		if s.current() == nil {
			b.Fatal("no session")
		}
	}
}
