package e2e

import (
	"errors"
	"os/exec"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"net"
)

func smtpClient(c net.Conn) *smtp.Client { return smtp.NewClient(c) }

func imapClient(c net.Conn) *imapclient.Client { return imapclient.New(c, nil) }

// fetchSubjects selects a mailbox and returns its subjects in order.
func fetchSubjects(t testing.TB, c *imapclient.Client, mailbox string) []string {
	t.Helper()
	if err := c.WaitGreeting(); err != nil {
		t.Fatal(err)
	}
	selected, err := c.Select(mailbox, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if selected.NumMessages == 0 {
		return nil
	}
	all := imap.SeqSet{}
	all.AddRange(1, 0)
	messages, err := c.Fetch(all, &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	var subjects []string
	for _, m := range messages {
		subjects = append(subjects, m.Envelope.Subject)
	}
	return subjects
}

// exitCode returns the code that a program ended with; 0 also when it never ran.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}
