package backend_test

import (
	"testing"

	"posthorn/backend/backendtest"
)

// A server that does not tell capabilities with the login is asked for each
// user's once.
func TestIMAPAsksOnce(t *testing.T) {
	const bob = "bob@example.org"
	told := func(list string) string { return "* CAPABILITY " + list + "\r\np3 OK\r\n" }
	s := backendtest.StartScript(t,
		dialog(greeting, byOwnWord, "p2 OK in\r\n", "p3 CAPABILITY", told(offered)),
		dialog(greeting, byOwnWord, "p2 OK in\r\n"),
		dialog(greeting, "p2 AUTHENTICATE PLAIN "+b64("", bob, password), "p2 OK in\r\n", "p3 CAPABILITY", told("IMAP4rev1 BOB")),
		dialog(greeting, byOwnWord, loggedIn))
	p := proxy(t, s.Address)
	for _, tt := range []struct{ user, want string }{
		{alice, offered}, {alice, offered}, {bob, "IMAP4rev1 BOB"}, {alice, offered},
	} {
		session, err := openKept(t, p, tt.user, password)
		if err != nil {
			t.Fatal(err)
		}
		if got := session.Capabilities(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.user, got, tt.want)
		}
		session.Close()
	}
}
