package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// TestMaxMessageSize: a message of just the limit arrives, with all that is
// added to it, and can be put elsewhere; one that is an octet longer is
// refused.
func TestMaxMessageSize(t *testing.T) {
	const limit = 64 << 10
	g := newGateway(t, "max_message_size: 64 KiB\n")
	g.account("alice@localhost")
	key := g.key("alice@localhost", "alice")
	head := "Subject: sized\r\n\r\n"
	left := limit - len(head)
	message := head + strings.Repeat("x", left%72) + strings.Repeat(strings.Repeat("x", 70)+"\r\n", left/72)
	g.submit(key, "alice@localhost", "alice@localhost", message)

	c := imapClient(g.dial(key, "imap"))
	defer c.Close()
	text := fetchFirst(t, c)
	if len(text) <= limit || !bytes.HasSuffix(text, []byte(message[len(head):])) {
		t.Errorf("%d octets arrived", len(text))
	}
	appending := c.Append("Archive", int64(len(text)), nil)
	_, err := appending.Write(text)
	if err := errors.Join(err, appending.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := appending.Wait(); err != nil {
		t.Errorf("what was delivered cannot be appended: %v", err)
	}

	s := smtpClient(g.dial(key, "smtp"))
	defer s.Close()
	var reply *smtp.SMTPError
	err = s.SendMail("alice@localhost", []string{"alice@localhost"}, strings.NewReader(message[:len(head)]+"x"+message[len(head):]))
	if !errors.As(err, &reply) || reply.Code != 552 {
		t.Errorf("an octet more: %v", err)
	}
}

// fetchFirst returns the first message of the INBOX.
func fetchFirst(t *testing.T, c *imapclient.Client) []byte {
	t.Helper()
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := &imap.FetchItemBodySection{}
	got, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	if err != nil || len(got) != 1 {
		t.Fatalf("%d messages, %v", len(got), err)
	}
	return got[0].FindBodySection(whole)
}

// TestNegativeSerial: of a client's certificate the key alone counts, even
// beside a serial number that no certificate may have.
func TestNegativeSerial(t *testing.T) {
	g := newGateway(t, "")
	g.account("alice@localhost")
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(5)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	der = bytes.Replace(der, []byte{2, 1, 5}, []byte{2, 1, 0x85}, 1)
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Fatal("the certificate is not odd")
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	g.posthornIn(string(text), "key", "add", "alice@localhost")

	config := g.tlsConfig("", "imap")
	config.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: signer}}
	c, err := tls.Dial("tcp", g.shared, config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	greeting := make([]byte, len("* PREAUTH "))
	if _, err := c.Read(greeting); err != nil || string(greeting) != "* PREAUTH " {
		t.Errorf("greeted with %q, %v", greeting, err)
	}
}

// TestReloadLimits: SIGHUP changes how many passwords may be tried, on
// connections that are there already too.
func TestReloadLimits(t *testing.T) {
	g := newGateway(t, "limits: {passwords_per_connection: 3}\n")
	password := g.account("alice@localhost")
	c := smtpClient(g.dial("", "smtp"))
	defer c.Close()
	login := func(password string) int {
		var reply *smtp.SMTPError
		if errors.As(c.Auth(sasl.NewPlainClient("", "alice@localhost", password)), &reply) {
			return reply.Code
		}
		return 0
	}
	if got := login("wrong"); got != 535 {
		t.Fatalf("got %d", got)
	}
	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("connection: 3"), []byte("connection: 1"), 1)
	if err := os.WriteFile(g.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	g.awaitLog("limits.passwords_per_connection")
	if got := login(password); got != 421 {
		t.Errorf("the second password of one: %d", got)
	}
}
