package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"posthorn/client/sendmail"
)

// mailer is one run of "sendmail".
type mailer struct {
	*cli
	file      string // --config
	queueDir  string
	rules     sendmail.Rules
	sender    string
	notify    string
	back      string
	id        string
	mode      string
	options   []string
	verbose   bool
	flush     bool
	list      bool
	retry     string
	remove    string
	config    *SendmailConfig
	queue     *sendmail.Queue // nil: there is none
	queueOnly bool
}

func (c *cli) sendmailCmd() *cobra.Command {
	m := &mailer{cli: c}
	cmd := &cobra.Command{
		Use:   "sendmail [RECIPIENT…]",
		Short: "Send the message on standard input, as /usr/sbin/sendmail does",
		Long: `Read a message from standard input and submit it through a gateway, by whichever route
leads there. It takes the place of /usr/sbin/sendmail, also as a link of that name; mailq
and newaliases are understood as well, and the options that programs usually give are
accepted, though many of them mean nothing here.

The configuration is --config, or $` + sendmailEnv + `, or
~/.config/posthorn/sendmail.yaml, or /etc/posthorn/sendmail.yaml.

The input ends with the file, or with a line that is a dot, unless there is -i or -oi.
Recipients are the arguments, with -t those of To, Cc and Bcc too. Names without a domain
are looked up among the aliases, or are at the domain of from. Bcc is always taken out; a
missing From, Date or Message-ID is added. Lines get the ends that SMTP wants; a CR or NUL
inside of a line becomes a space; text with lines over 998 octets becomes quoted-printable.

With a queue, a message that cannot be sent now waits there; --flush, or -q, tries all that
wait, and is best run by a timer. What the gateway refuses for good is reported and, if it
comes out of the queue, stays there as failed.

The exit codes are those of sysexits.h: 0 sent or queued; 64 the command line; 65 the
message; 67 no such recipient; 69 refused, at least for some; 74 the disk; 75 try again,
nobody has had it; 77 the login, or not allowed; 78 the configuration. When the gateway
takes a message for some recipients only, they get it, and the exit code is not 75.`,
		Example: `  posthorn sendmail -t <message.eml
  ln -s /usr/local/bin/posthorn /usr/sbin/sendmail
  posthorn sendmail --queue ~/.local/state/posthorn/queue --flush`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return m.run(cmd, args) },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &sendmail.Error{Code: sendmail.Usage, Err: c.flagError(cmd, err)}
	})
	m.flags(cmd.Flags())
	refuse := c.here(cmd, "the configuration names the gateway").PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if err := refuse(cmd, args); err != nil {
			return &sendmail.Error{Code: sendmail.Usage, Err: err}
		}
		return nil
	}
	return c.jsonFlag(cmd)
}

func (m *mailer) flags(f *pflag.FlagSet) {
	f.StringVarP(&m.file, "config", "C", "", "read the configuration `FILE`")
	f.BoolVarP(&m.rules.HeaderRecipients, "read-recipients", "t", false, "send to those in To, Cc and Bcc, besides the arguments")
	f.BoolVarP(&m.rules.WholeInput, "ignore-dots", "i", false, "a line with nothing but a dot does not end the message; also -oi")
	f.StringVarP(&m.sender, "from", "f", "", "the envelope's sender is `ADDRESS`; <> or '': nobody (default from in the configuration)")
	f.StringVarP(&m.rules.FullName, "full-name", "F", "", "the `NAME` for a From that has to be made")
	f.StringVarP(&m.notify, "notify", "N", "", "ask for reports `WHEN`: never, or some of success,failure,delay")
	f.StringVarP(&m.back, "return", "R", "", "ask that reports bring back `WHAT`: full or hdrs")
	f.StringVarP(&m.id, "envelope-id", "V", "", "the `ID` by which reports name the message")
	f.StringVarP(&m.mode, "mode", "b", "m", "the `MODE`: m sends, p lists the queue, i does nothing")
	f.StringArrayVarP(&m.options, "option", "o", nil, "an `OPTION`: i as -i, dq to leave the message in the queue; others mean nothing here")
	f.StringVar(&m.queueDir, "queue", "", "the queue is in `DIR` (default queue in the configuration, or none)")
	f.BoolVarP(&m.flush, "flush", "q", false, "send what waits in the queue")
	f.BoolVar(&m.list, "queue-list", false, "list what is in the queue; also -bp")
	f.StringVar(&m.retry, "queue-retry", "", "let those wait again who were refused the message `ID`")
	f.StringVar(&m.remove, "queue-remove", "", "remove the message `ID` from the queue")
	f.BoolVarP(&m.verbose, "verbose", "v", false, "tell who got the message")

	// What others have and programs give, and what has no meaning here.
	f.StringVarP(&m.sender, "r", "r", "", "")
	for _, letter := range []string{"A", "B", "e", "L", "O", "p", "X"} {
		f.StringP("ignored-"+letter, letter, "", "")
	}
	for _, letter := range []string{"G", "m", "n", "U"} {
		f.BoolP("ignored-"+letter, letter, false, "")
	}
	f.VisitAll(func(f *pflag.Flag) { f.Hidden = strings.HasPrefix(f.Name, "ignored-") || f.Name == "r" })
}

func (m *mailer) run(cmd *cobra.Command, args []string) (err error) {
	if err := m.understand(cmd.Flags()); err != nil {
		return &sendmail.Error{Code: sendmail.Usage, Err: err}
	}
	if m.mode == "i" {
		return nil
	}
	if m.config, err = m.sendmailConfig(m.file); err != nil {
		return err
	}
	if dir := m.queueDir; dir != "" || m.config.Queue != "" {
		if dir == "" {
			dir = m.config.Queue
		}
		if m.queue, err = sendmail.OpenQueue(dir); err != nil {
			return err
		}
		defer m.queue.Close()
	}
	ctx := cmd.Context()
	switch {
	case m.queue == nil && (m.list || m.flush || m.queueOnly || m.retry != "" || m.remove != ""):
		return &sendmail.Error{Code: sendmail.Config, Err: withHint(errors.New("there is no queue"), "say where it is, with --queue or queue: in the configuration")}
	case m.list:
		return m.printQueue()
	case m.retry != "":
		return m.queue.Retry(ctx, m.retry)
	case m.remove != "":
		return m.queue.Remove(ctx, m.remove)
	case m.flush:
		return m.flushQueue(ctx)
	}
	return m.submit(ctx, args)
}

// understand makes sense of what was asked for.
func (m *mailer) understand(given *pflag.FlagSet) error {
	if m.sender == "" && (given.Changed("from") || given.Changed("r")) {
		m.sender = "<>"
	}
	switch m.mode {
	case "m", "i":
	case "p":
		m.list = true
	default:
		return fmt.Errorf("mode -b%s is not one that is done here: -bm sends, -bp lists the queue", m.mode)
	}
	for _, o := range m.options {
		m.rules.WholeInput = m.rules.WholeInput || o == "i"
		m.queueOnly = m.queueOnly || o == "dq"
	}
	r := &m.rules.Reports
	for when := range strings.SplitSeq(strings.ToUpper(m.notify), ",") {
		if when = strings.TrimSpace(when); when != "" && !slices.Contains(r.Notify, when) {
			r.Notify = append(r.Notify, when)
		}
	}
	for _, when := range r.Notify {
		if !slices.Contains([]string{"NEVER", "SUCCESS", "FAILURE", "DELAY"}, when) || when == "NEVER" && len(r.Notify) > 1 {
			return fmt.Errorf("-N %s: it is never, or some of success,failure,delay", m.notify)
		}
	}
	if r.Return = strings.ToUpper(m.back); !slices.Contains([]string{"", "FULL", "HDRS"}, r.Return) {
		return fmt.Errorf("-R %s: it is full or hdrs", m.back)
	}
	const longest = 100 // RFC 3461 section 4.4
	if r.ID = m.id; len(r.ID) > longest || strings.ContainsFunc(r.ID, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return errors.New("-V: an envelope ID is at most 100 printable characters of ASCII")
	}
	return nil
}

// submit sends the message on standard input.
func (m *mailer) submit(ctx context.Context, args []string) error {
	outliveReaders()
	dialer, err := m.config.dialer()
	if err != nil {
		return err
	}
	m.rules.Address, m.rules.Sender, m.rules.Recipients = m.config.From, m.sender, args
	m.rules.ReplaceSender, m.rules.Aliases = m.config.ReplaceFrom, m.config.aliases()
	message, err := m.read(ctx)
	if err != nil {
		if sendmail.Code(err) == sendmail.Config {
			return withHint(err, "from: in the configuration says whose mail it is")
		}
		return err
	}
	if m.queueOnly {
		return m.keep(message, message.Recipients, "it was left there")
	}
	sender := &sendmail.Sender{Dialer: dialer}
	defer sender.Close()
	return m.judge(message, sender.Send(ctx, message))
}

// read prepares the message on standard input. Reading cannot be called off; who
// is interrupted before the input has ended leaves it to the end of the process.
func (m *mailer) read(ctx context.Context) (*sendmail.Message, error) {
	type prepared struct {
		message *sendmail.Message
		err     error
	}
	done := make(chan prepared, 1)
	go func() {
		message, err := m.rules.Prepare(m.stdin)
		done <- prepared{message, err}
	}()
	select {
	case p := <-done:
		return p.message, p.err
	case <-ctx.Done():
		return nil, &sendmail.Error{Code: sendmail.TempFail, Err: errors.New("interrupted before the message had come to its end")}
	}
}

// judge tells what became of a message, and keeps it for those who may have it
// later, if there is a queue.
func (m *mailer) judge(message *sendmail.Message, o *sendmail.Outcome) error {
	m.tell(o)
	had := o.Sent
	var lines []string
	for _, f := range o.Refused {
		lines = append(lines, f.String())
	}
	if len(o.Deferred) > 0 && m.queue != nil {
		var left []string
		for _, f := range o.Deferred {
			left = append(left, f.Recipient)
		}
		err := m.keep(message, left, o.Deferred[0].Reason)
		if err == nil {
			o.Deferred, had = nil, append(had, left...)
		} else {
			m.report(err)
		}
	}
	for _, f := range o.Deferred {
		lines = append(lines, f.String())
	}
	if len(lines) == 0 {
		return nil
	}
	err := fmt.Errorf("not sent to\n%s", strings.Join(lines, "\n"))
	if len(had) > 0 {
		err = withHint(err, "it was sent to %s, or is in the queue: who sends it to all again sends it twice to them", strings.Join(had, ", "))
	}
	return &sendmail.Error{Code: o.Exit(), Err: err}
}

// keep puts a message into the queue.
func (m *mailer) keep(message *sendmail.Message, recipients []string, reason string) error {
	id, err := m.queue.Add(message, recipients, reason)
	if err == nil {
		fmt.Fprintf(m.stderr, "queued as %s for %s: %s\n", id, strings.Join(recipients, ", "), reason)
	}
	return err
}

// tell says what is worth to be known though nothing failed.
func (m *mailer) tell(o *sendmail.Outcome) {
	if m.verbose {
		for _, r := range o.Sent {
			fmt.Fprintf(m.stderr, "sent to %s\n", r)
		}
	}
	if o.NoReports && len(o.Sent) > 0 {
		fmt.Fprintln(m.stderr, "warning: the gateway does not pass on what -N, -R and -V ask for")
	}
}

// flushQueue sends what waits.
func (m *mailer) flushQueue(ctx context.Context) error {
	outliveReaders()
	dialer, err := m.config.dialer()
	if err != nil {
		return err
	}
	sender := &sendmail.Sender{Dialer: dialer}
	defer sender.Close()
	var code sendmail.Exit
	err = m.queue.Flush(ctx, sender, func(e *sendmail.Entry, o *sendmail.Outcome) {
		m.tell(o)
		for _, f := range o.Refused {
			fmt.Fprintf(m.stderr, "%s failed for %s\n", e.ID, f.String())
		}
		for _, f := range o.Deferred {
			fmt.Fprintf(m.stderr, "%s waits for %s\n", e.ID, f.String())
		}
		switch {
		case len(o.Refused) > 0:
			code = sendmail.Unavailable
		case len(o.Deferred) > 0 && code == sendmail.OK:
			code = o.Deferred[0].Code
		}
	})
	switch {
	case err != nil:
		return err
	case code == sendmail.Unavailable:
		return &sendmail.Error{Code: code, Err: withHint(errors.New("some messages have failed"), "they are in --queue-list; --queue-retry and --queue-remove decide")}
	case code != sendmail.OK:
		return &sendmail.Error{Code: code, Err: errors.New("some messages wait on")}
	}
	return nil
}

func (m *mailer) printQueue() error {
	entries, err := m.queue.List()
	if err != nil {
		return err
	}
	return m.print(entries, func(w io.Writer) {
		if len(entries) == 0 {
			fmt.Fprintln(w, "The queue is empty.")
			return
		}
		var t table
		t.row("ID", "QUEUED", "SIZE", "SENDER", "RECIPIENT", "STATE", "REASON")
		for _, e := range entries {
			head := []string{e.ID, when(e.Queued), bytesText(e.Size), e.Sender}
			if e.Broken != "" {
				t.row(e.ID, "", "", "", "", "broken", e.Broken)
			}
			for _, r := range e.Recipients {
				t.row(append(slices.Clone(head), r, "waits", shorten(e.Reason))...)
			}
			for _, f := range e.Failed {
				t.row(append(slices.Clone(head), f.Recipient, "failed", shorten(f.Reason))...)
			}
		}
		t.write(w)
	})
}
