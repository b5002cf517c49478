package backend

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	goimap "github.com/emersion/go-imap/v2"

	"posthorn/accounts"
	"posthorn/backend/upstream"
)

// played is a connection to a server that says what it says, and listens to
// nothing.
type played struct {
	net.Conn
	io.Reader
	sent int
}

func (p *played) Read(b []byte) (int, error) { return p.Reader.Read(b) }

func (p *played) Write(b []byte) (int, error) {
	p.sent += len(b)
	return len(b), nil
}

// FuzzIMAPDialog has a server say anything. Whatever it says, the dialog ends,
// is bounded, and gives no secret away; when it ends well, what is left is the
// user's, untouched.
func FuzzIMAPDialog(f *testing.F) {
	const greeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN] ready\r\n"
	for _, login := range []string{
		"p2 OK [CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN] in\r\n* 1 EXISTS\r\nx",
		"* ID (\"name\" {3}\r\nabc)\r\np1 OK\r\n* CAPABILITY IMAP4rev1\r\np2 OK in\r\n",
		"p2 OK in\r\n* OK hi\r\n* CAPABILITY IMAP4rev1 STARTTLS\r\np3 OK\r\n",
		"p2 NO [AUTHENTICATIONFAILED] no\r\n", "p2 NO [UNAVAILABLE] s3cr3t\r\n", "p2 BAD s3cr3t\r\n", "* BYE [LIMIT] x\r\n",
		"+ \r\np2 OK [CAPABILITY X] in\r\n", "+ \r\n+ \r\n", "p1 BAD\r\n* ID NIL\r\n", "* {1}\r\n", "p2 OK [CAPA\r\n", "\x00\r\n",
	} {
		f.Add(greeting + login)
	}
	f.Add("* OK hello\r\n* CAPABILITY IMAP4rev1\r\np3 OK\r\n+ \r\n+ \r\np2 OK [CAPABILITY IMAP4rev1] in\r\n")
	f.Add("* OK [CAPABILITY AUTH=PLAIN] hello\r\n+\r\np2 OK [CAPABILITY IMAP4rev1] in\r\n")
	f.Add("* PREAUTH hello\r\n")
	f.Add("* BYE busy\r\n")
	f.Add("* OK [LIMIT] busy\r\n")
	f.Fuzz(func(t *testing.T, said string) {
		wire := &played{Reader: strings.NewReader(said)}
		conn := &upstream.Conn{Conn: wire, R: bufio.NewReaderSize(wire, 16)}
		begin := imapDialog{conn: conn}
		offers, err := begin.begin(t.Context(), upstream.Plain)
		if err != nil {
			return
		}
		d := imapDialog{conn: conn}
		id := idCommand(&Client{Names: []string{"name", `a"b`}}, "7.x")
		list, head, err := d.logIn(imapCredentials{credentials: credentials{user: "alice", password: "s3cr3t"}}, parseIMAPOffer(offers), id, "")
		if wire.sent > 1000 {
			t.Errorf("sent %d octets", wire.sent)
		}
		if err != nil {
			checkRefusal(t, err)
			return
		}
		for _, name := range strings.Fields(afterLogin(list)) {
			if name = strings.ToUpper(name); name == "STARTTLS" || name == "LOGINDISABLED" {
				t.Errorf("%s is not hidden", name)
			}
		}
		head = append(head, conn.Detach()...)
		rest, _ := io.ReadAll(wire)
		if left := string(append(head, rest...)); !strings.HasSuffix(said, string(rest)) || len(left) > len(said) {
			t.Errorf("the client gets %q", left)
		}
	})
}

func checkRefusal(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); strings.Contains(text, "s3cr3t") || len(text) > 2000 {
		t.Errorf("an error of %d octets: %.200q", len(text), text)
	}
	var answer *goimap.Error
	if !errors.As(err, &answer) {
		return
	}
	if errors.Is(err, accounts.ErrWrongPassword) || answer.Code == "" || strings.Contains(string(answer.Code), "]") ||
		printable(answer.Text) != answer.Text || printable(string(answer.Code)) != string(answer.Code) {
		t.Errorf("answer %+v", answer)
	}
}
