package accounts_test

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"posthorn/accounts"
	"posthorn/authkeys"
)

var _ sasl.Server = (*accounts.Exchange)(nil)

// TestMechanisms logs in with every mechanism of real clients, with and
// without initial response, as each of the account's addresses.
func TestMechanisms(t *testing.T) {
	d := newDoor(t, accounts.Options{})
	alice := d.add("alice@example.org", password, "al@bücher.example")
	key := d.key(alice)
	here, there := tlsPair(t, nil)
	p := peer(home, key)
	p.TLS = there

	for mech, connect := range map[string]func(user, identity string) client{
		"EXTERNAL":      func(user, _ string) client { return sasl.NewExternalClient(user) },
		"PLAIN":         func(user, id string) client { return sasl.NewPlainClient(id, user, password) },
		"LOGIN":         func(user, _ string) client { return sasl.NewLoginClient(user, password) },
		"SCRAM-SHA-256": func(user, id string) client { return newScram(t, "SCRAM-SHA-256", user, password, id, unbound) },
		plus: func(user, id string) client {
			return newScram(t, plus, user, password, id, bound(bindingTo(t, here)))
		},
	} {
		t.Run(mech, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				for as, identities := range map[string][]string{
					"alice@example.org":        {"", "ALICE@example.org"},
					"al@xn--bcher-kva.example": {"", "AL@bücher.example", "al@XN--BCHER-KVA.example"},
				} {
					for _, id := range identities {
						l, err := exchange(t.Context(), d.NewAuth(p), connect(as, id), late)
						if err != nil {
							t.Errorf("as %s with identity %q, late %v: %v", as, id, late, err)
							continue
						}
						if l.Account.ID != alice.ID || l.Address != as || l.Mechanism != mech {
							t.Errorf("as %s: login %+v", as, l)
						}
						if proved := mech == "EXTERNAL"; proved != (l.Key == key) || proved == l.Key.IsZero() {
							t.Errorf("key %v", l.Key)
						}
					}
				}
			}
		})
	}
}

func TestMechanismList(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	alice := d.add("alice@example.org", password)
	key := d.key(alice)
	smtpKey := d.key(alice, func(k *authkeys.Key) { k.Scope = authkeys.ScopeSMTP })
	_, tls13 := tlsPair(t, nil)
	_, tls12 := tlsPair(t, func(_, s *tls.Config) { s.MaxVersion = tls.VersionTLS12 })
	with := func(key authkeys.Fingerprint, state *tls.ConnectionState) accounts.Peer {
		p := peer(home, key)
		p.TLS = state
		return p
	}
	for _, c := range []struct {
		name string
		peer accounts.Peer
		want string
	}{
		{"with a key", with(key, tls13), "EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
		{"TLS 1.2 with extended master secret", with(key, tls12), "EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
		{"without", with(noKey, tls13), "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
		{"with an unknown key", with(newFingerprint(), tls13), "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
		{"with a key out of scope", with(smtpKey, tls13), "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
		{"nothing to bind to", with(key, new(tls.ConnectionState)), "EXTERNAL SCRAM-SHA-256 PLAIN LOGIN"},
		{"before TLS", with(key, nil), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := d.NewAuth(c.peer)
			offered := a.Mechanisms(ctx)
			if got := strings.Join(offered, " "); got != c.want {
				t.Errorf("offered %s, want %s", got, c.want)
			}
			for _, m := range []string{"EXTERNAL", plus, "SCRAM-SHA-256", "PLAIN", "LOGIN", "SCRAM-SHA-1", "ANONYMOUS", "", "PLAIN "} {
				_, err := a.Start(ctx, strings.ToLower(m))
				if slices.Contains(offered, m) != (err == nil) {
					t.Errorf("Start(%q): %v", m, err)
				}
				if err != nil {
					wantReason(t, m, err, accounts.BadMechanism)
				}
			}
		})
	}
	before := d.NewAuth(with(key, nil))
	_, err := before.Password(ctx, "alice@example.org", password)
	wantReason(t, "Password before TLS", err, accounts.BadMechanism)
	_, err = before.Key(ctx)
	wantReason(t, "Key before TLS", err, accounts.NoKey)
}

// TestExternalIdentity tries every kind of authorization identity, and that
// the connection is afterwards what it was.
func TestExternalIdentity(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	alice := d.add("alice@example.org", password, "ally@example.org")
	d.add("bob@example.org", password)
	a := d.NewAuth(peer(home, d.key(alice)))
	for _, c := range []struct {
		name     string
		identity string
		want     accounts.Reason
		as       string
	}{
		{"empty", "", "", "alice@example.org"},
		{"own", "alice@example.org", "", "alice@example.org"},
		{"own in upper case", "ALICE@EXAMPLE.ORG", "", "alice@example.org"},
		{"sibling", "Ally@example.org", "", "ally@example.org"},
		{"foreign", "bob@example.org", accounts.BadIdentity, ""},
		{"unknown", "nobody@example.org", accounts.BadIdentity, ""},
		{"local part only", "alice", accounts.BadIdentity, ""},
		{"ID", alice.ID, accounts.BadIdentity, ""},
		{"quoted", `"alice"@example.org`, accounts.BadIdentity, ""},
		{"NUL", "alice@example.org\x00", accounts.Malformed, ""},
		{"NUL and foreign", "alice@example.org\x00bob@example.org", accounts.Malformed, ""},
		{"CRLF", "alice@example.org\r\n", accounts.Malformed, ""},
		{"not UTF-8", "alice\xff@example.org", accounts.Malformed, ""},
		{"100 kB", strings.Repeat("a", 100000) + "@example.org", accounts.Malformed, ""},
	} {
		for _, late := range []bool{false, true} {
			l, err := exchange(ctx, a, sasl.NewExternalClient(c.identity), late)
			wantReason(t, c.name, err, c.want)
			if err == nil && (l.Account.ID != alice.ID || l.Address != c.as) {
				t.Errorf("%s: logged in as %+v", c.name, l)
			}
			if l, err := a.Key(ctx); err != nil || l.Account.ID != alice.ID || l.Address != "alice@example.org" {
				t.Errorf("after %s the connection is %+v, %v", c.name, l, err)
			}
		}
	}
}

// TestPendingExternal: a key that goes away between Start and the response
// does not log in.
func TestPendingExternal(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	alice := d.add("alice@example.org", password)
	key := d.key(alice)
	x, err := d.NewAuth(peer(home, key)).Start(ctx, "EXTERNAL")
	if err != nil {
		t.Fatal(err)
	}
	if _, done, err := x.Next(nil); done || err != nil {
		t.Fatal(done, err)
	}
	if _, err := d.keys.Remove(ctx, key); err != nil {
		t.Fatal(err)
	}
	_, done, err := x.Next([]byte{})
	wantReason(t, "Next", err, accounts.UnknownKey)
	if done || x.Login() != nil {
		t.Error("it is done")
	}
}

// TestMalformed sends what no client should, and that an exchange that failed
// stays failed.
func TestMalformed(t *testing.T) {
	d := newDoor(t, accounts.Options{})
	d.add("alice@example.org", password)
	good := "\x00alice@example.org\x00" + password
	for _, c := range []struct {
		mech      string
		responses []string
		want      accounts.Reason
	}{
		{"PLAIN", []string{""}, accounts.Malformed},
		{"PLAIN", []string{"alice@example.org\x00" + password}, accounts.Malformed},
		{"PLAIN", []string{good + "\x00"}, accounts.Malformed},
		{"PLAIN", []string{good + "\x00x"}, accounts.Malformed},
		{"PLAIN", []string{"\x00" + good}, accounts.Malformed},
		{"PLAIN", []string{"\x00\x00" + password}, accounts.Malformed},
		{"PLAIN", []string{"\x00alice@example.org\x00"}, accounts.Malformed},
		{"PLAIN", []string{good + "\xff"}, accounts.Malformed},
		{"PLAIN", []string{good + strings.Repeat("x", 100000)}, accounts.Malformed},
		{"PLAIN", []string{"bob@example.org" + good}, accounts.BadIdentity},
		{"PLAIN", []string{"alice" + good}, accounts.BadIdentity},
		{"PLAIN", []string{"\r\n" + good}, accounts.BadIdentity},
		{"LOGIN", []string{"", "", password}, accounts.Malformed},
		{"LOGIN", []string{"alice@example.org", ""}, accounts.Malformed},
		{"LOGIN", []string{"alice@example.org", password + "\x00"}, accounts.Malformed},
		{"LOGIN", []string{"alice@example.org\x00", password}, accounts.Malformed},
		{"SCRAM-SHA-256", []string{""}, accounts.Malformed},
		{"SCRAM-SHA-256", []string{"n,,n=alice@example.org"}, accounts.Malformed},
		{"SCRAM-SHA-256", []string{"n,,m=x,n=alice@example.org,r=abc"}, accounts.Malformed},
		{"SCRAM-SHA-256", []string{"n,,n=alice=40example.org,r=abc"}, accounts.Malformed},
		{"SCRAM-SHA-256", []string{"n,,n=alice@example.org,r=a\x00c"}, accounts.Malformed},
		{"SCRAM-SHA-256", []string{"n,,n=alice@example.org,r=a\x7fc"}, accounts.Malformed},
		{"SCRAM-SHA-256", []string{"n,,n=alice\xff@example.org,r=abc"}, accounts.Malformed},
		{"SCRAM-SHA-256", []string{"n,,n=alice@example.org,r=abc", ""}, accounts.Malformed},
		{"SCRAM-SHA-256", []string{"n,,n=alice@example.org,r=abc", "c=biws,r=abc,p=AAAA"}, accounts.Malformed},
	} {
		a := d.NewAuth(peer(home, noKey))
		x, err := a.Start(t.Context(), c.mech)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range c.responses {
			_, done, err := x.Next([]byte(r))
			if i < len(c.responses)-1 {
				if done || err != nil {
					t.Fatalf("%s %.60q: done %v, %v", c.mech, c.responses[:i+1], done, err)
				}
				continue
			}
			wantReason(t, c.mech+" "+strings.Join(c.responses, " / ")[:min(60, len(strings.Join(c.responses, " / ")))], err, c.want)
		}
		for range 3 {
			_, done, err := x.Next([]byte(good))
			wantReason(t, "Next after the end", err, accounts.Malformed)
			if done || x.Login() != nil {
				t.Errorf("%s %q logged in", c.mech, c.responses)
			}
		}
		if _, err := d.Unblock(home.String()); err != nil { // the throttle is another test's
			t.Fatal(err)
		}
	}
}

// TestDoneIsTheEnd: an exchange that has succeeded takes nothing more.
func TestDoneIsTheEnd(t *testing.T) {
	d := newDoor(t, accounts.Options{})
	d.add("alice@example.org", password)
	x, err := d.NewAuth(peer(home, noKey)).Start(t.Context(), "PLAIN")
	if err != nil {
		t.Fatal(err)
	}
	good := []byte("\x00alice@example.org\x00" + password)
	if _, done, err := x.Next(good); !done || err != nil {
		t.Fatal(done, err)
	}
	_, done, err := x.Next(good)
	wantReason(t, "again", err, accounts.Malformed)
	if done {
		t.Error("done twice")
	}
}

func TestLoginQuestions(t *testing.T) {
	d := newDoor(t, accounts.Options{})
	d.add("alice@example.org", password)
	for name, responses := range map[string][][]byte{
		"no initial response":    {nil, []byte("alice@example.org"), []byte(password)},
		"empty initial response": {{}, []byte("alice@example.org"), []byte(password)},
		"initial response":       {[]byte("alice@example.org"), []byte(password)},
	} {
		x, err := d.NewAuth(peer(home, noKey)).Start(t.Context(), "LOGIN")
		if err != nil {
			t.Fatal(err)
		}
		questions := []string{"Username:", "Password:"}[3-len(responses):]
		for i, r := range responses {
			challenge, done, err := x.Next(r)
			last := i == len(responses)-1
			if err != nil || done != last || (!last && string(challenge) != questions[i]) {
				t.Errorf("%s: challenge %q, done %v, %v", name, challenge, done, err)
			}
		}
	}
}
