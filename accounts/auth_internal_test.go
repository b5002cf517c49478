package accounts

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"posthorn/authkeys"
	"posthorn/store/storetest"
)

// crowd is a store with accounts in every state that can refuse a password.
type crowd struct {
	*Store
	peer  Peer // of a stranger
	keyed Peer // of a device of another account's
}

func newCrowd(t testing.TB, throttle Throttle) *crowd {
	t.Helper()
	kv := storetest.Memory(t)
	ctx := t.Context()
	keys := authkeys.New(kv)
	s, err := New(ctx, kv, keys, Options{Throttle: throttle})
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]*Account)
	for name, password := range map[string]string{"alice": "right", "disabled": "right", "keys": "", "other": "right"} {
		if byName[name], err = s.Add(ctx, name+"@example.org", password); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetDisabled(ctx, byName["disabled"].ID, true); err != nil {
		t.Fatal(err)
	}
	k := authkeys.Key{Account: byName["other"].ID, Type: "Ed25519"}
	rand.Read(k.Fingerprint[:])
	if err := keys.Add(ctx, k); err != nil {
		t.Fatal(err)
	}
	stranger := Peer{Remote: netip.MustParseAddr("192.0.2.1"), Scope: authkeys.ScopeIMAP, TLS: new(tls.ConnectionState)}
	keyed := stranger
	keyed.Key = k.Fingerprint
	return &crowd{s, stranger, keyed}
}

// refusals are the ways to be refused that a peer must not tell apart.
var refusals = []struct {
	want     Reason
	user     string
	identity string
	password string
	keyed    bool
}{
	{want: WrongPassword, user: "alice@example.org", password: "wrong"},
	{want: UnknownUser, user: "nobody@example.org", password: "wrong"},
	{want: UnknownUser, user: "nobody@elsewhere.test", password: "wrong"},
	{want: UnknownUser, user: "not an address", password: "wrong"},
	{want: NoPassword, user: "keys@example.org", password: "wrong"},
	{want: Disabled, user: "disabled@example.org", password: "right"},
	{want: Disabled, user: "disabled@example.org", password: "wrong"},
	{want: OtherAccount, user: "alice@example.org", password: "right", keyed: true},
	{want: WrongPassword, user: "alice@example.org", password: "wrong", keyed: true},
	{want: BadIdentity, user: "alice@example.org", identity: "keys@example.org", password: "right"},
}

// TestSameWork: a password is tried exactly once, at the same cost, whatever
// it will be refused for.
func TestSameWork(t *testing.T) { synctest.Test(t, testSameWork) }

func testSameWork(t *testing.T) {
	c := newCrowd(t, Throttle{PerSource: 1000})
	blocked := newCrowd(t, Throttle{PerSource: 1})
	if _, err := blocked.NewAuth(blocked.peer).Password(t.Context(), "alice@example.org", "wrong"); !isRefusal(err) {
		t.Fatal(err)
	}
	if _, err := blocked.NewAuth(blocked.keyed).Password(t.Context(), "alice@example.org", "wrong"); !isRefusal(err) {
		t.Fatal(err)
	}
	for _, r := range refusals {
		for _, in := range []*crowd{c, blocked} {
			p, want := in.peer, r.want
			if r.keyed {
				p = in.keyed
			}
			if in == blocked {
				want = Throttled
			}
			tried := 0
			_, err := in.NewAuth(p).evaluate(t.Context(), claim{user: r.user, identity: r.identity}, func(v verifier) error {
				tried++
				if v.iterations != iterations || len(v.salt) != saltSize || len(v.storedKey) != len(v.serverKey) {
					t.Errorf("%s: verifier %+v", r.user, v)
				}
				if v.matches(r.password) {
					return nil
				}
				return errProof
			})
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Reason != want || tried != 1 {
				t.Errorf("%s: %v after %d tries, want %q", r.user, err, tried, want)
			}
		}
	}
}

// TestPanicIsSettled: a panic, which costs its connection, costs nobody else
// the turn to have a password checked, and is no way to guess on.
func TestPanicIsSettled(t *testing.T) {
	c := newCrowd(t, Throttle{PerSource: 1000})
	for range 2 * cap(c.limiter.cpu) {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_, err := c.NewAuth(c.peer).evaluate(t.Context(), claim{user: "alice@example.org"}, func(verifier) error { panic("test") })
			t.Error(err)
		}()
	}
	if _, err := c.NewAuth(c.peer).Password(t.Context(), "alice@example.org", "right"); err != nil {
		t.Error(err)
	}
	source := sourceSubject(c.peer.Remote)
	if f := &c.limiter.table(source).entries[source].value; f.pending != 0 || len(f.recent) != 2*cap(c.limiter.cpu) {
		t.Errorf("%d pending, %d failed", f.pending, len(f.recent))
	}
}

// BenchmarkRefusal is the time that each refusal takes, to be compared.
func BenchmarkRefusal(b *testing.B) {
	c := newCrowd(b, Throttle{PerSource: 1 << 30})
	for _, r := range refusals {
		b.Run(string(r.want)+"/"+r.user, func(b *testing.B) {
			p := c.peer
			if r.keyed {
				p = c.keyed
			}
			for b.Loop() {
				auth := c.NewAuth(p)
				cl := claim{mechanism: mechPlain, user: r.user, identity: r.identity}
				if _, err := auth.password(b.Context(), cl, r.password); !isRefusal(err) {
					b.Fatal(err)
				}
				c.limiter.users = newTable[uint64](maxTracked, c.limiter.users.weigh) // else the user grows slow
			}
		})
	}
}
