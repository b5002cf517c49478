package client_test

import (
	"context"
	"fmt"
	"log"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"posthorn/client"
	"posthorn/client/clienttest"
)

// exampleTB is what an example's gateway has for a test.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (e *exampleTB) Helper()                   {}
func (e *exampleTB) Context() context.Context  { return context.Background() }
func (e *exampleTB) Cleanup(f func())          { e.cleanups = append(e.cleanups, f) }
func (e *exampleTB) Fatal(args ...any)         { log.Fatal(args...) }
func (e *exampleTB) Error(args ...any)         { log.Print(args...) }
func (e *exampleTB) Errorf(f string, a ...any) { log.Printf(f, a...) }

func (e *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "posthorn-example-")
	if err != nil {
		log.Fatal(err)
	}
	e.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (e *exampleTB) close() {
	for len(e.cleanups) > 0 {
		last := len(e.cleanups) - 1
		f := e.cleanups[last]
		e.cleanups = e.cleanups[:last]
		f()
	}
}

// exampleConfig is a gateway's with alice's key, in a network that lets nothing
// through but what looks like the web.
func exampleConfig() (client.Config, func()) {
	t := new(exampleTB)
	g := start(t)
	n := g.network(clienttest.Rules{
		Ports:  map[uint16]clienttest.Verdict{993: clienttest.BlackHole, 465: clienttest.BlackHole},
		ALPN:   map[string]clienttest.Verdict{"imap": clienttest.Reset, "smtp": clienttest.Reset},
		NoALPN: clienttest.Reset,
	})
	return g.config(n), t.close
}

func ExampleParseIdentity() {
	seed := "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A" // of RFC 8032 section 7.1
	identity, err := client.ParseIdentity([]byte(seed), "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(identity)
	fmt.Println(identity.PublicLine())
	// Output:
	// identity SHA256:BuP9j9opu2CrWVV95h7bCuzbIxE0vjDnW0Vfjht5L6k (Ed25519)
	// ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea
}

func ExampleDialer_IMAP() {
	config, stop := exampleConfig()
	defer stop()
	dialer, err := client.New(config) // Host, Identity
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := dialer.IMAP(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	inbox, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(inbox.NumMessages, "messages")
	// Output: 0 messages
}

func ExampleDialer_Submission() {
	config, stop := exampleConfig()
	defer stop()
	dialer, err := client.New(config)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := dialer.Submission(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	letter := "From: <alice@example.org>\r\nTo: <alice@example.org>\r\nSubject: Hello\r\n\r\nYou have mail.\r\n"
	if err := c.SendMail("alice@example.org", []string{"alice@example.org"}, strings.NewReader(letter)); err != nil {
		log.Fatal(err)
	}
	fmt.Println("sent")
	// Output: sent
}

func ExampleDialer_Probe() {
	config, stop := exampleConfig()
	defer stop()
	config.Timeout = 2 * time.Second
	dialer, err := client.New(config)
	if err != nil {
		log.Fatal(err)
	}
	report, err := dialer.Probe(context.Background(), client.ALPN, client.Name, client.Web)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range report.Routes {
		fmt.Printf("%s by %s: %t %q\n", f.Protocol, f.Kind, f.OK, f.Class)
	}
	// Output:
	// imap by alpn: false "reset"
	// imap by name: false "reset"
	// imap by web: true ""
	// smtp by alpn: false "reset"
	// smtp by name: false "reset"
	// smtp by web: true ""
}

func ExampleFixedProxy() {
	tor, err := url.Parse("socks5h://127.0.0.1:9050")
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.New(client.Config{Host: "mail.example.org", Proxy: client.FixedProxy(tor)})
	fmt.Println(err)
	// Output: <nil>
}
