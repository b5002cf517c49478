package accounts_test

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"posthorn/accounts"
)

// scramClient makes a SASL client of the library's conversation.
type scramClient struct {
	mech string
	conv *scram.ClientConversation
}

func newScram(t testing.TB, mech, user, password, identity string, how func(*scram.Client) *scram.ClientConversation) *scramClient {
	t.Helper()
	c, err := scram.SHA256.NewClient(user, password, identity)
	if err != nil {
		t.Fatal(err)
	}
	return &scramClient{mech, how(c)}
}

func (c *scramClient) Start() (string, []byte, error) {
	first, err := c.conv.Step("")
	return c.mech, []byte(first), err
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	answer, err := c.conv.Step(string(challenge))
	return []byte(answer), err
}

func unbound(c *scram.Client) *scram.ClientConversation { return c.NewConversation() }

func bound(b scram.ChannelBinding) func(*scram.Client) *scram.ClientConversation {
	return func(c *scram.Client) *scram.ClientConversation { return c.NewConversationWithChannelBinding(b) }
}

// bindingTo returns the channel binding to a connection.
func bindingTo(t testing.TB, state *tls.ConnectionState) scram.ChannelBinding {
	t.Helper()
	b, err := scram.NewTLSExporterBinding(state)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const plus = "SCRAM-SHA-256-PLUS"

func TestChannelBinding(t *testing.T) {
	d := newDoor(t, accounts.Options{})
	d.add("alice@example.org", password)
	here, there := tlsPair(t, nil)
	other, _ := tlsPair(t, nil)
	own, foreign := bindingTo(t, here), bindingTo(t, other)
	here12, there12 := tlsPair(t, func(_, s *tls.Config) { s.MaxVersion = tls.VersionTLS12 })
	advertising := func(c *scram.Client) *scram.ClientConversation {
		return c.NewConversationAdvertisingChannelBinding()
	}
	for _, c := range []struct {
		name  string
		state *tls.ConnectionState
		mech  string
		how   func(*scram.Client) *scram.ClientConversation
		want  accounts.Reason
	}{
		{"bound to this connection", there, plus, bound(own), ""},
		{"bound to another connection", there, plus, bound(foreign), accounts.BadBinding},
		{"PLUS without binding", there, plus, unbound, accounts.BadBinding},
		{"PLUS with the flag y", there, plus, advertising, accounts.BadBinding},
		{"a binding without PLUS", there, "SCRAM-SHA-256", bound(own), accounts.BadBinding},
		{"a client that did not see PLUS", there, "SCRAM-SHA-256", advertising, accounts.BadBinding},
		{"PLUS was not offered", new(tls.ConnectionState), "SCRAM-SHA-256", advertising, ""},
		{"a client that cannot bind", there, "SCRAM-SHA-256", unbound, ""},
		{"tls-unique on TLS 1.3", there, plus, bound(scram.NewTLSUniqueBinding(own.Data)), accounts.BadBinding},
		{"tls-server-end-point", there, plus, bound(scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: own.Data}), accounts.BadBinding},
		{"tls-exporter on TLS 1.2", there12, plus, bound(bindingTo(t, here12)), ""},
		{"tls-unique on TLS 1.2", there12, plus, bound(scram.NewTLSUniqueBinding(here12.TLSUnique)), ""},
		{"a foreign tls-unique", there12, plus, bound(scram.NewTLSUniqueBinding(make([]byte, 12))), accounts.BadBinding},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := peer(home, noKey)
			p.TLS = c.state
			cl := newScram(t, c.mech, "alice@example.org", password, "", c.how)
			l, err := exchange(t.Context(), d.NewAuth(p), cl, false)
			wantReason(t, "login", err, c.want)
			if err == nil && (!cl.conv.Valid() || l.Mechanism != c.mech) {
				t.Errorf("the client does not believe the server, or the mechanism is %s", l.Mechanism)
			}
		})
	}
}

// TestScramTellsNothing: whoever does not exist has a salt as constant as
// anybody's, also after a restart.
func TestScramTellsNothing(t *testing.T) {
	d := newDoor(t, accounts.Options{})
	d.add("alice@example.org", password)
	d.add("keys@example.org", "")
	again := openDoor(t, d.kv, accounts.Options{})
	salts := make(map[string]string)
	for _, user := range []string{"alice@example.org", "keys@example.org", "nobody@example.org", "nobody@elsewhere.test", "junk"} {
		var first string
		for _, at := range []*door{d, d, again} {
			for _, spelling := range []string{user, strings.ToUpper(user)} {
				if user == "junk" {
					spelling = user
				}
				s := saltOf(t, at, spelling)
				if first == "" {
					first = s
				}
				if s != first || !strings.HasSuffix(s, "==,i=10000") || len(s) != len("s=")+24+len(",i=10000") {
					t.Errorf("%s: salt %s, before %s", spelling, s, first)
				}
			}
		}
		if other, ok := salts[first]; ok {
			t.Errorf("%s and %s have the same salt", user, other)
		}
		salts[first] = user

		_, err := exchange(t.Context(), d.NewAuth(peer(home, noKey)), newScram(t, "SCRAM-SHA-256", user, "guess", "", unbound), false)
		if r := reason(t, err); r == "" {
			t.Errorf("%s logged in", user)
		}
	}
	fresh := newDoor(t, accounts.Options{})
	if salts[saltOf(t, fresh, "nobody@example.org")] != "" {
		t.Error("another installation has the same salt for nobody")
	}
}

// saltOf returns the salt and iterations that a user name is shown.
func saltOf(t *testing.T, d *door, user string) string {
	t.Helper()
	x, err := d.NewAuth(peer(home, noKey)).Start(t.Context(), "SCRAM-SHA-256")
	if err != nil {
		t.Fatal(err)
	}
	challenge, _, err := x.Next([]byte("n,,n=" + user + ",r=abc"))
	if err != nil {
		t.Fatal(err)
	}
	_, salt, _ := strings.Cut(string(challenge), ",")
	return salt
}

// TestScramOvertaken: what changes while a client thinks counts.
func TestScramOvertaken(t *testing.T) {
	for _, c := range []struct {
		name  string
		after int // responses
		do    func(d *door, a *accounts.Account) error
		want  accounts.Reason
	}{
		{"password changed", 1, func(d *door, a *accounts.Account) error { return d.SetPassword(t.Context(), a.ID, "new") }, accounts.WrongPassword},
		{"password removed", 1, func(d *door, a *accounts.Account) error { return d.SetPassword(t.Context(), a.ID, "") }, accounts.NoPassword},
		{"disabled", 1, func(d *door, a *accounts.Account) error { return d.SetDisabled(t.Context(), a.ID, true) }, accounts.Disabled},
		{"password changed after the proof", 2, func(d *door, a *accounts.Account) error { return d.SetPassword(t.Context(), a.ID, "new") }, accounts.WrongPassword},
		{"disabled after the proof", 2, func(d *door, a *accounts.Account) error { return d.SetDisabled(t.Context(), a.ID, true) }, accounts.Disabled},
		{"removed after the proof", 2, func(d *door, a *accounts.Account) error { _, err := d.Remove(t.Context(), a.ID); return err }, accounts.UnknownUser},
		{"nothing", 2, func(*door, *accounts.Account) error { return nil }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDoor(t, accounts.Options{})
			a := d.add("alice@example.org", password)
			cl := newScram(t, "SCRAM-SHA-256", "alice@example.org", password, "", unbound)
			_, err := exchange(t.Context(), d.NewAuth(peer(home, noKey)), &meddler{cl, c.after, func() error { return c.do(d, a) }}, false)
			wantReason(t, "login", err, c.want)
		})
	}
}

// meddler does something before a client's response.
type meddler struct {
	client
	before int
	do     func() error
}

func (m *meddler) Next(challenge []byte) ([]byte, error) {
	if m.before--; m.before == 0 {
		if err := m.do(); err != nil {
			return nil, err
		}
	}
	return m.client.Next(challenge)
}

func TestScramTrailingResponse(t *testing.T) {
	d := newDoor(t, accounts.Options{})
	d.add("alice@example.org", password)
	cl := newScram(t, "SCRAM-SHA-256", "alice@example.org", password, "", unbound)
	_, response, err := cl.Start()
	if err != nil {
		t.Fatal(err)
	}
	x, err := d.NewAuth(peer(home, noKey)).Start(t.Context(), "SCRAM-SHA-256")
	if err != nil {
		t.Fatal(err)
	}
	var challenge []byte
	for range 2 {
		var done bool
		if challenge, done, err = x.Next(response); done || err != nil {
			t.Fatal(done, err)
		}
		if response, err = cl.Next(challenge); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.HasPrefix(challenge, []byte("v=")) || !cl.conv.Valid() {
		t.Fatalf("the server's last word is %q", challenge)
	}
	_, done, err := x.Next([]byte("x"))
	wantReason(t, "a response that says something", err, accounts.Malformed)
	if done || x.Login() != nil {
		t.Error("it logged in")
	}
}
