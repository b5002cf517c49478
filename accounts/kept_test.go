package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"

	"posthorn/accounts"
	"posthorn/authkeys"
)

// mailSystem keeps passwords as a chatmail relay does: the first login creates
// the user, wrong passwords are answered late.
type mailSystem struct {
	local func(address string) bool // what it does not keep; nil: nothing
	fail  error                     // what every login comes to, if not nil
	delay time.Duration             // before anything but success

	mu    sync.Mutex
	users map[string]string
	asked []string // addresses
	busy  int      // logins under way
	most  int      // of them at once
	open  int      // conversations
}

func newMailSystem() *mailSystem { return &mailSystem{users: make(map[string]string)} }

func (m *mailSystem) Keeps(address string, a *accounts.Account) bool {
	return (a == nil || a.Backend != "here") && (m.local == nil || !m.local(address))
}

func (m *mailSystem) Login(ctx context.Context, address string, _ *accounts.Account, password string) (io.Closer, error) {
	m.mu.Lock()
	m.asked = append(m.asked, address)
	m.busy++
	m.most = max(m.most, m.busy)
	right, known := m.users[address]
	if !known && m.fail == nil && password != "guess" {
		m.users[address], right = password, password
	}
	m.mu.Unlock()
	err := m.fail
	if err == nil && right != password {
		err = fmt.Errorf("NO: %w", accounts.ErrWrongPassword)
	}
	if err != nil {
		select {
		case <-time.After(m.delay):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy--
	if err != nil {
		return nil, err
	}
	m.open++
	return &conversation{m: m, user: address}, nil
}

func (m *mailSystem) counts() (asked, open int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.asked), m.open
}

type conversation struct {
	m    *mailSystem
	user string
}

func (c *conversation) Close() error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.open--
	return nil
}

// behind is peer for a gateway with a mail system behind it.
func behind(m *mailSystem, from netip.Addr, key authkeys.Fingerprint) accounts.Peer {
	p := peer(from, key)
	p.Passwords = m
	return p
}

// ways are the mechanisms that hand over a password.
var ways = map[string]func(ctx context.Context, a *accounts.Auth, user, identity, password string) (*accounts.Login, error){
	"PLAIN": func(ctx context.Context, a *accounts.Auth, user, identity, password string) (*accounts.Login, error) {
		return exchange(ctx, a, sasl.NewPlainClient(identity, user, password), false)
	},
	"SASL LOGIN": func(ctx context.Context, a *accounts.Auth, user, _, password string) (*accounts.Login, error) {
		return exchange(ctx, a, sasl.NewLoginClient(user, password), true)
	},
	"IMAP LOGIN": func(ctx context.Context, a *accounts.Auth, user, _, password string) (*accounts.Login, error) {
		return a.Password(ctx, user, password)
	},
}

// TestKept tries every way to be let in or refused: what is asked, what stays
// open, and what is recorded.
func TestKept(t *testing.T) {
	for _, c := range []struct {
		name                     string
		user, identity, password string
		keyed                    bool // shows alice's key
		want                     accounts.Reason
		asked                    string // empty: nobody is
		as                       string
	}{
		{name: "right", user: "alice@example.org", password: password, asked: "alice@example.org", as: "alice@example.org"},
		{name: "in upper case", user: "ALICE@Example.ORG", password: password, asked: "alice@example.org", as: "alice@example.org"},
		{name: "wrong", user: "alice@example.org", password: "x", want: accounts.WrongPassword, asked: "alice@example.org"},
		{name: "the local one", user: "alice@example.org", password: "local password", want: accounts.WrongPassword, asked: "alice@example.org"},
		{name: "with the key", user: "alice@example.org", password: password, keyed: true, asked: "alice@example.org", as: "alice@example.org"},
		{name: "alias", user: "al@example.org", password: "of al", asked: "al@example.org", as: "al@example.org"},
		{name: "as the alias", user: "alice@example.org", identity: "Al@example.org", password: password, asked: "alice@example.org", as: "al@example.org"},
		{name: "as another", user: "alice@example.org", identity: "bob@example.org", password: password, want: accounts.BadIdentity, asked: "alice@example.org"},
		{name: "as nobody", user: "alice@example.org", identity: "nobody@example.org", password: password, want: accounts.BadIdentity, asked: "alice@example.org"},
		{name: "disabled, right", user: "off@example.org", password: password, want: accounts.Disabled, asked: "off@example.org"},
		{name: "disabled, wrong", user: "off@example.org", password: "x", want: accounts.WrongPassword, asked: "off@example.org"},
		{name: "unknown, refused", user: "nobody@example.org", password: "guess", want: accounts.WrongPassword, asked: "nobody@example.org"},
		{name: "new", user: "New@example.org", password: "whatever", asked: "new@example.org", as: "new@example.org"},
		{name: "new as another", user: "new@example.org", identity: "alice@example.org", password: "whatever", want: accounts.BadIdentity, asked: "new@example.org"},
		{name: "new with a key", user: "new@example.org", password: "whatever", keyed: true, want: accounts.OtherAccount},
		{name: "another with a key", user: "bob@example.org", password: password, keyed: true, want: accounts.OtherAccount},
		{name: "foreign domain", user: "alice@example.net", password: password, want: accounts.UnknownUser},
		{name: "no address", user: "alice", password: password, want: accounts.UnknownUser},
		{name: "quoted", user: `"alice"@example.org`, password: password, want: accounts.UnknownUser},
		{name: "line breaks in the name", user: "alice@example.org\r\nx", password: password, want: accounts.UnknownUser},
		{name: "line break", user: "alice@example.org", password: password + "\r\n", want: accounts.WrongPassword},
		{name: "escape", user: "alice@example.org", password: "\x1b[2J", want: accounts.WrongPassword},
		{name: "endless", user: "alice@example.org", password: strings.Repeat("x", 1025), want: accounts.WrongPassword},
		{name: "kept here", user: "here@example.org", password: "local password", as: "here@example.org"},
		{name: "kept here, wrong", user: "here@example.org", password: password, want: accounts.WrongPassword},
	} {
		for way, login := range ways {
			if c.identity != "" && way != "PLAIN" {
				continue
			}
			t.Run(c.name+"/"+way, func(t *testing.T) {
				d, m := newDoor(t, accounts.Options{Domains: []string{"example.org"}}), newMailSystem()
				key := d.household(m)
				p := behind(m, home, noKey)
				if c.keyed {
					p.Key = key
				}
				l, err := login(t.Context(), d.NewAuth(p), c.user, c.identity, c.password)
				wantReason(t, "login", err, c.want)
				asked, open := m.counts()
				if (c.asked != "") != (asked == 1) || asked == 1 && m.asked[0] != c.asked {
					t.Errorf("asked for %q, want %q", m.asked, c.asked)
				}
				if l == nil {
					if open != 0 {
						t.Errorf("%d conversations stay open", open)
					}
					return
				}
				if l.Address != c.as || !l.Account.Has(c.as) || !l.Key.IsZero() {
					t.Errorf("logged in as %+v", l)
				}
				talk, ok := l.Opened.(*conversation)
				if ok != (c.asked != "") || ok && (talk.user != c.asked || open != 1) {
					t.Errorf("opened %+v, %d in all", l.Opened, open)
				}
				if err := d.Check(t.Context(), l); err != nil {
					t.Errorf("Check: %v", err)
				}
			})
		}
	}
}

// TestPasswordStamp: what a password that is kept here has opened is tied to it, and
// nothing else is.
func TestPasswordStamp(t *testing.T) {
	d, m, ctx := newDoor(t, accounts.Options{}), newMailSystem(), t.Context()
	alice := d.add("alice@example.org", password)
	byKey, err := d.NewAuth(peer(home, d.key(alice))).Key(ctx)
	if err != nil {
		t.Fatal(err)
	}
	here, err := d.NewAuth(peer(home, noKey)).Password(ctx, "alice@example.org", password)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := d.NewAuth(behind(m, home, noKey)).Password(ctx, "alice@example.org", "another")
	if err != nil {
		t.Fatal(err)
	}
	stamp, err := d.PasswordStamp(ctx, alice.ID)
	if err != nil || stamp == "" || here.PasswordStamp() != stamp || byKey.PasswordStamp() != "" || kept.PasswordStamp() != "" {
		t.Errorf("%q, %v; here %q, by key %q, kept there %q", stamp, err, here.PasswordStamp(), byKey.PasswordStamp(), kept.PasswordStamp())
	}
	if err := d.SetPassword(ctx, alice.ID, ""); err != nil {
		t.Fatal(err)
	}
	if now, err := d.PasswordStamp(ctx, alice.ID); err != nil || now != "" {
		t.Errorf("without a password: %q, %v", now, err)
	}
	wantReason(t, "by the password from here", d.Check(ctx, here), accounts.WrongPassword)
	wantReason(t, "by that from there", d.Check(ctx, kept), "")
}

// household makes the accounts that TestKept tries, and returns a key of
// alice's.
func (d *door) household(m *mailSystem) authkeys.Fingerprint {
	d.t.Helper()
	alice := d.add("alice@example.org", "local password", "al@example.org")
	d.add("bob@example.org", "")
	off := d.add("off@example.org", "")
	if err := d.SetDisabled(d.t.Context(), off.ID, true); err != nil {
		d.t.Fatal(err)
	}
	here := d.add("here@example.org", "local password")
	if err := d.SetBackend(d.t.Context(), here.ID, "here"); err != nil {
		d.t.Fatal(err)
	}
	m.users = map[string]string{
		"alice@example.org": password, "al@example.org": "of al", "bob@example.org": password, "off@example.org": password,
	}
	return d.key(alice)
}

// TestFirstLogin: whoever logs in for the first time gets a record, once,
// however many connections do so at once, and can then have keys.
func TestFirstLogin(t *testing.T) {
	d, m := newDoor(t, accounts.Options{Domains: []string{"example.org"}}), newMailSystem()
	var wg sync.WaitGroup
	logins := make([]*accounts.Login, 16)
	for i := range logins {
		wg.Go(func() {
			p := behind(m, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), noKey)
			var err error
			if logins[i], err = d.NewAuth(p).Password(t.Context(), "New@example.org", "whatever"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	a := logins[0].Account
	for _, l := range logins {
		if l.Account.ID != a.ID || l.Address != "new@example.org" {
			t.Errorf("logged in as %+v", l)
		}
		l.Opened.Close()
	}
	n := 0
	for other, err := range d.List(t.Context()) {
		if n++; err != nil || other.ID != a.ID {
			t.Errorf("account %+v, %v", other, err)
		}
	}
	if n != 1 || a.Password || a.Backend != "" || a.Disabled || a.Created.IsZero() {
		t.Errorf("%d accounts: %+v", n, a)
	}
	l, err := d.NewAuth(behind(m, home, d.key(a))).Key(t.Context())
	if err != nil || l.Account.ID != a.ID || l.Opened != nil {
		t.Errorf("by key: %+v, %v", l, err)
	}
	if asked, open := m.counts(); asked != len(logins) || open != 0 {
		t.Errorf("asked %d times, %d open", asked, open)
	}
}

// TestFirstLoginAndAdd: an operator who adds the account at the same moment is
// told so, or comes first; either way there is one.
func TestFirstLoginAndAdd(t *testing.T) {
	d, m := newDoor(t, accounts.Options{}), newMailSystem()
	for i := range 50 {
		address := fmt.Sprintf("user%d@example.org", i)
		var wg sync.WaitGroup
		var added *accounts.Account
		var addErr, loginErr error
		var l *accounts.Login
		wg.Go(func() { added, addErr = d.Add(t.Context(), address, "") })
		wg.Go(func() { l, loginErr = d.NewAuth(behind(m, home, noKey)).Password(t.Context(), address, "whatever") })
		wg.Wait()
		if loginErr != nil || addErr != nil && !errors.Is(addErr, accounts.ErrTaken) {
			t.Fatal(loginErr, addErr)
		}
		if a, err := d.ByAddress(t.Context(), address); err != nil || a.ID != l.Account.ID || addErr == nil && added.ID != a.ID {
			t.Fatalf("%+v, %v", a, err)
		}
	}
}

// meanwhile is a mail system that takes its time.
type meanwhile struct {
	*mailSystem
	act func()
}

func (m *meanwhile) Login(ctx context.Context, address string, a *accounts.Account, password string) (io.Closer, error) {
	m.act()
	return m.mailSystem.Login(ctx, address, a, password)
}

// TestFirstLoginAndAlias: an address that is given to somebody else while its
// user logs in for the first time does not let that user in as somebody else.
func TestFirstLoginAndAlias(t *testing.T) {
	for name, act := range map[string]func(ctx context.Context, d *door, bob string) error{
		"alias": func(ctx context.Context, d *door, bob string) error { return d.AddAddress(ctx, bob, "new@example.org") },
		"moved": func(ctx context.Context, d *door, _ string) error {
			_, err := d.Create(ctx, accounts.NewAccount{Address: "new@example.org", Backend: "here"})
			return err
		},
	} {
		d := newDoor(t, accounts.Options{})
		bob := d.add("bob@example.org", "")
		m := &meanwhile{newMailSystem(), func() {
			if err := act(t.Context(), d, bob.ID); err != nil {
				t.Error(err)
			}
		}}
		p := peer(home, noKey)
		p.Passwords = m
		l, err := d.NewAuth(p).Password(t.Context(), "new@example.org", "whatever")
		if refused := new(accounts.RefusedError); err == nil || errors.As(err, &refused) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
		if _, open := m.counts(); open != 0 {
			t.Errorf("%s: %d conversations stay open", name, open)
		}
	}
}

// TestKeptMechanisms: what only proves a password is not offered.
func TestKeptMechanisms(t *testing.T) {
	d, m := newDoor(t, accounts.Options{}), newMailSystem()
	alice := d.add("alice@example.org", password)
	_, tls13 := tlsPair(t, nil)
	for name, c := range map[string]struct {
		key  authkeys.Fingerprint
		want string
	}{
		"with a key":    {d.key(alice), "EXTERNAL PLAIN LOGIN"},
		"without a key": {noKey, "PLAIN LOGIN"},
	} {
		p := behind(m, home, c.key)
		p.TLS = tls13
		a := d.NewAuth(p)
		if got := strings.Join(a.Mechanisms(t.Context()), " "); got != c.want {
			t.Errorf("%s: offered %s, want %s", name, got, c.want)
		}
		for _, mech := range []string{"SCRAM-SHA-256", plus} {
			_, err := a.Start(t.Context(), mech)
			wantReason(t, mech, err, accounts.BadMechanism)
		}
	}
}

// knock tries a password on a connection of its own, and closes what it opens.
func (d *door) knock(ctx context.Context, m *mailSystem, from netip.Addr, user, password string) error {
	l, err := d.NewAuth(behind(m, from, noKey)).Password(ctx, user, password)
	if err == nil {
		err = l.Opened.Close()
	}
	return err
}

// TestKeptThrottle: guesses are counted as they are at the gateway, and a
// source that is blocked does not get as far as the mail system.
func TestKeptThrottle(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		m := newMailSystem()
		m.delay = 2 * time.Second
		m.users["alice@example.org"] = password
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { _ = d.knock(t.Context(), m, home, "alice@example.org", "guess") })
		}
		wg.Wait()
		if asked, _ := m.counts(); asked != 10 {
			t.Errorf("%d of 100 guesses reached the mail system", asked)
		}
		wantReason(t, "when blocked", d.knock(t.Context(), m, home, "alice@example.org", password), accounts.Throttled)
		wantReason(t, "new when blocked", d.knock(t.Context(), m, home, "new@example.org", "whatever"), accounts.Throttled)
		if asked, open := m.counts(); asked != 10 || open != 0 || m.most > 10 {
			t.Errorf("asked %d times, %d at once, %d open", asked, m.most, open)
		}
		if err := d.knock(t.Context(), m, netip.MustParseAddr("192.0.2.2"), "alice@example.org", password); err != nil {
			t.Errorf("from elsewhere: %v", err)
		}
	})
}

// TestKeptTakesAsLong: time tells no refusal by the mail system from another,
// and none of those that it does not hear of.
func TestKeptTakesAsLong(t *testing.T) {
	inBubble(t, accounts.Options{Domains: []string{"example.org"}, Throttle: accounts.Throttle{PerSource: 1000}}, func(t *testing.T, d *door) {
		m := newMailSystem()
		m.delay = 2 * time.Second
		m.users = map[string]string{"alice@example.org": password, "off@example.org": password}
		off := d.add("off@example.org", "")
		if err := d.SetDisabled(t.Context(), off.ID, true); err != nil {
			t.Fatal(err)
		}
		for user, want := range map[string]time.Duration{
			"alice@example.org": m.delay, "nobody@example.org": m.delay, "off@example.org": m.delay,
			"alice@example.net": 0, "nobody@example.net": 0, "nobody": 0,
		} {
			start := time.Now()
			if err := d.knock(t.Context(), m, home, user, "guess"); reason(t, err) == "" {
				t.Errorf("%s got in", user)
			}
			if took := time.Since(start); took != want {
				t.Errorf("%s: refused after %v, want %v", user, took, want)
			}
		}
	})
}

// TestKeptDoesNotCompute: passwords that a slow mail system looks at keep
// nobody from having a local one checked.
func TestKeptDoesNotCompute(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		m := newMailSystem()
		m.delay = time.Minute
		m.fail = errors.New("slow")
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				_ = d.knock(t.Context(), m, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), fmt.Sprintf("u%d@example.org", i), "x")
			})
		}
		synctest.Wait()
		start := time.Now()
		if got := d.guess(home, noKey, "alice@example.org", password); got != "" || time.Since(start) > 0 {
			t.Errorf("%q after %v", got, time.Since(start))
		}
		wg.Wait()
		if m.most != 64 {
			t.Errorf("%d were asked at once", m.most)
		}
	})
}

// TestUnanswered: errors that say nothing of the password come through as they
// are and block nobody, but are no way to guess faster.
func TestUnanswered(t *testing.T) {
	broken := errors.New("connection reset")
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		m := newMailSystem()
		m.fail = broken
		start := time.Now()
		for i := range 100 {
			if err := d.knock(t.Context(), m, home, "alice@example.org", password); !errors.Is(err, broken) {
				t.Fatal(err)
			}
			if i < 50 != (time.Since(start) == 0) {
				t.Errorf("attempt %d came through after %v", i+1, time.Since(start))
			}
		}
		if took := time.Since(start); took != 20*time.Second || len(d.Blocks()) != 0 {
			t.Errorf("100 attempts took %v, blocks %v", took, d.Blocks())
		}
		// Who waits gives up with its context, and others are not concerned.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.knock(ctx, m, home, "alice@example.org", password); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		m.fail = nil
		if err := d.knock(t.Context(), m, netip.MustParseAddr("192.0.2.2"), "alice@example.org", password); err != nil {
			t.Error(err)
		}
		// Ten wrong ones are still ten.
		time.Sleep(time.Minute)
		for range 10 {
			wantReason(t, "guess", d.knock(t.Context(), m, home, "alice@example.org", "guess"), accounts.WrongPassword)
		}
		wantReason(t, "the eleventh", d.knock(t.Context(), m, home, "alice@example.org", password), accounts.Throttled)
	})
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		m := newMailSystem()
		m.fail = fmt.Errorf("%w: connection refused", accounts.ErrNotAsked)
		start := time.Now()
		for range 100 {
			if err := d.knock(t.Context(), m, home, "alice@example.org", password); !errors.Is(err, accounts.ErrNotAsked) {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("without a mail system 100 attempts took %v", took)
		}
	})
}

// TestHangUp: who does not wait for the answer that comes late has guessed.
func TestHangUp(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		m := newMailSystem()
		m.delay = 2 * time.Second
		m.users["alice@example.org"] = password
		for range 5 {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if err := d.knock(ctx, m, home, "alice@example.org", "guess"); err == nil {
						t.Error("got in")
					}
				})
			}
			wg.Wait()
		}
		if asked, _ := m.counts(); asked != 10 || len(d.Blocks()) != 1 {
			t.Errorf("%d guesses, blocks %v", asked, d.Blocks())
		}
	})
}

// TestKeptPerConnection: a connection has as many attempts as ever, and those
// without an answer are among them.
func TestKeptPerConnection(t *testing.T) {
	d, m := newDoor(t, accounts.Options{}), newMailSystem()
	m.fail = errors.New("broken")
	a := d.NewAuth(behind(m, home, noKey))
	for range 5 {
		if _, err := a.Password(t.Context(), "alice@example.org", "x"); !errors.Is(err, m.fail) {
			t.Fatal(err)
		}
	}
	_, err := a.Password(t.Context(), "alice@example.org", "x")
	wantReason(t, "the sixth", err, accounts.TooMany)
	if asked, _ := m.counts(); asked != 5 {
		t.Errorf("asked %d times", asked)
	}
}

func TestSetBackend(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	a, err := d.Create(ctx, accounts.NewAccount{Address: "alice@example.org", Backend: "mail"})
	if err != nil || a.Backend != "mail" || a.Password {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, name := range []string{"other", ""} {
		if err := d.SetBackend(ctx, a.ID, name); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Get(ctx, a.ID); err != nil || got.Backend != name {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if err := d.SetBackend(ctx, "nobody", "mail"); !errors.Is(err, accounts.ErrNoAccount) {
		t.Errorf("of nobody: %v", err)
	}
}
