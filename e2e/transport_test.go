package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"posthorn/client/webtransport"
)

var transportModes = map[string]webtransport.Mode{"websocket": webtransport.WebSocket, "h2": webtransport.HTTP2}

// tunnel connects to a protocol inside the web.
func (g *gateway) tunnel(mode webtransport.Mode, pemFile, protocol string) *tls.Conn {
	g.t.Helper()
	d := &webtransport.Dialer{
		TLSConfig: g.tlsConfig(""), Subprotocol: protocol, Mode: mode,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, g.shared)
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	nc, err := d.Dial(ctx, g.name)
	if err != nil {
		g.t.Fatal(err)
	}
	c := tls.Client(nc, g.tlsConfig(pemFile, protocol))
	g.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		g.t.Fatal(err)
	}
	if err := c.Handshake(); err != nil {
		g.t.Fatal(err)
	}
	return c
}

// A key logs in inside the web as it does outside, for both protocols, with
// mailboxes of the gateway's own; disabling the account ends the session.
func TestTransportEmbedded(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "")
	password := g.account(alice)
	key := g.key(alice, "laptop")
	for name, mode := range transportModes {
		smtp := smtpClient(g.tunnel(mode, key, "smtp"))
		if err := smtp.SendMail(alice, []string{alice}, strings.NewReader(letter(alice, alice, name, "x"))); err != nil {
			t.Fatal(err)
		}
		smtp.Close()
		imap := imapClient(g.tunnel(mode, key, "imap"))
		if got := fetchSubjects(t, imap, "INBOX"); got[len(got)-1] != name {
			t.Errorf("%s: %q", name, got)
		}
		imap.Close()
		bound(t, g.tunnel(mode, "", "imap"), password)
		withPassword := imapClient(g.tunnel(mode, "", "imap"))
		if err := withPassword.Login(alice, password).Wait(); err != nil {
			t.Error(err)
		}
		withPassword.Close()
	}
	c := g.tunnel(webtransport.WebSocket, key, "imap")
	r := bufio.NewReader(c)
	if greeting, err := r.ReadString('\n'); !strings.HasPrefix(greeting, "* PREAUTH") {
		t.Fatal(greeting, err)
	}
	g.posthorn("account", "disable", alice)
	if bye, err := r.ReadString('\n'); !strings.HasPrefix(bye, "* BYE") {
		t.Fatal(bye, err)
	}
}

// bound logs in with SCRAM-SHA-256-PLUS, bound to the connection inside.
func bound(t *testing.T, c *tls.Conn, password string) {
	t.Helper()
	s := &rawIMAP{t: t, c: c, r: bufio.NewReader(c)}
	s.until("* OK")
	client, err := scram.SHA256.NewClient(alice, password, "")
	if err != nil {
		t.Fatal(err)
	}
	state := c.ConnectionState()
	binding, err := scram.NewTLSExporterBinding(&state)
	if err != nil {
		t.Fatal(err)
	}
	conversation := client.NewConversationWithChannelBinding(binding)
	io.WriteString(c, "x AUTHENTICATE SCRAM-SHA-256-PLUS\r\n")
	for {
		line, err := s.r.ReadString('\n')
		encoded, more := strings.CutPrefix(strings.TrimSpace(line), "+")
		if !more {
			if !strings.HasPrefix(line, "x OK") || !conversation.Valid() {
				t.Fatalf("%q, %v", line, err)
			}
			return
		}
		text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err != nil {
			t.Fatal(err)
		}
		answer := ""
		if !conversation.Done() {
			if answer, err = conversation.Step(string(text)); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprintf(c, "%s\r\n", base64.StdEncoding.EncodeToString([]byte(answer)))
	}
}

// The same before a mail system, with 20 MB each way, and a goodbye when the
// gateway stops.
func TestTransportBehind(t *testing.T) {
	t.Parallel()
	e := newEdge(t, edgeOptions{})
	for name, mode := range transportModes {
		c := e.tunnel(mode, "", "imap")
		s := &rawIMAP{t: t, c: c, r: bufio.NewReaderSize(c, 64<<10)}
		s.untagged()
		s.do(fmt.Sprintf("LOGIN %s %q", alice, alicePassword))
		const size = 20 << 20
		line := "Subject: " + name + "\r\n\r\n"
		fmt.Fprintf(c, "big APPEND INBOX {%d+}\r\n%s", size, line)
		if _, err := io.CopyN(c, octets{}, size-int64(len(line))); err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "\r\n")
		s.until("big OK")
		s.do("SELECT INBOX")
		io.WriteString(c, "get FETCH * BODY.PEEK[]\r\n")
		s.until("* ")
		if _, err := io.CopyN(io.Discard, s.r, size); err != nil {
			t.Fatal(err)
		}
		s.until("get OK")
	}
}

// octets is an endless message.
type octets struct{}

func (octets) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
		if i%70 == 69 && i+1 < len(b) {
			b[i] = ' '
		}
	}
	return len(b), nil
}

// rawIMAP is a client that says what it is told to.
type rawIMAP struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func (s *rawIMAP) untagged() { s.until("* ") }

// until reads up to a line that begins so.
func (s *rawIMAP) until(prefix string) {
	s.t.Helper()
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			s.t.Fatalf("%q, %v", line, err)
		}
		if strings.HasPrefix(line, prefix) {
			return
		}
		if tag, _, _ := strings.Cut(prefix, " "); strings.HasPrefix(line, tag+" ") && tag != "*" {
			s.t.Fatalf("%q", line)
		}
	}
}

func (s *rawIMAP) do(command string) {
	s.t.Helper()
	fmt.Fprintf(s.c, "x %s\r\n", command)
	s.until("x OK")
}
