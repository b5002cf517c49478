package sendmail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-smtp"

	"posthorn/client"
)

// Sender submits messages, as many as it can over one connection. It serves one
// goroutine at a time; whoever has one closes it.
type Sender struct {
	Dialer *client.Dialer
	// Stall is how long the gateway may take not an octet of a message; default 5
	// minutes (RFC 5321 section 4.5.3.2).
	Stall time.Duration

	conn *smtp.Client // nil: there is none
}

// Close ends the connection, if there is one.
func (s *Sender) Close() {
	if s.conn != nil {
		s.conn.CommandTimeout = 5 * time.Second // all is said and done
		_ = s.conn.Quit()
		s.drop()
	}
}

func (s *Sender) drop() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// Send submits a message. Those of the recipients that the gateway takes get it,
// whatever becomes of the others; the Outcome has every one of them.
func (s *Sender) Send(ctx context.Context, m *Message) *Outcome {
	o := new(Outcome)
	left := m.Recipients
	for len(left) > 0 {
		t := transaction{sender: s, message: m, outcome: o}
		left = t.run(ctx, left)
	}
	return o
}

// transaction is a mail transaction (RFC 5321 section 3.3).
type transaction struct {
	sender   *Sender
	message  *Message
	outcome  *Outcome
	conn     *smtp.Client
	accepted []string
	surplus  []string // recipients above the number that the gateway takes at once
}

// run submits the message to some recipients, and returns those of them for whom
// another transaction is needed. What is not told to be so is in the outcome.
func (t *transaction) run(ctx context.Context, recipients []string) (again []string) {
	if err := t.open(ctx); err != nil {
		t.outcome.fail(recipients, interrupted(ctx, err))
		t.sender.drop()
		return nil
	}
	defer context.AfterFunc(ctx, func() { t.conn.Close() })()
	for i, r := range recipients {
		if err := t.address(r); err != nil {
			t.outcome.fail(recipients[i:], interrupted(ctx, err))
			t.outcome.fail(append(t.accepted, t.surplus...), interrupted(ctx, err))
			t.sender.drop()
			return nil
		}
	}
	if len(t.accepted) == 0 { // the next message gets a connection without a transaction in it
		t.sender.Close()
		return nil
	}
	if err := t.data(); err != nil {
		t.outcome.fail(append(t.accepted, t.surplus...), interrupted(ctx, err))
		t.sender.drop()
		return nil
	}
	t.outcome.Sent = append(t.outcome.Sent, t.accepted...)
	return t.surplus
}

// open begins the transaction, on the connection that there is, or on a new one if
// that has ended meanwhile.
func (t *transaction) open(ctx context.Context) error {
	if t.sender.conn != nil {
		err := t.mail(ctx, t.sender.conn)
		if answer := new(smtp.SMTPError); err == nil || errors.As(err, &answer) && answer.Code != 421 {
			return err
		}
		t.sender.drop()
	}
	conn, err := t.sender.Dialer.Submission(ctx)
	if err != nil {
		t.outcome.Unreachable = true
		return reachable(err)
	}
	t.sender.conn = conn
	return t.mail(ctx, conn)
}

func (t *transaction) mail(ctx context.Context, conn *smtp.Client) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	t.conn = conn
	m := t.message
	offered := func(name string) bool { ok, _ := conn.Extension(name); return ok }
	if most, ok := conn.MaxMessageSize(); ok && most > 0 && m.Size > int64(most) {
		return &refusal{Unavailable, fmt.Errorf("the message has %d octets, and the gateway takes %d", m.Size, most)}
	}
	switch {
	case m.UTF8 && !offered("SMTPUTF8"):
		return &refusal{DataErr, errors.New("an address or the header is not ASCII, and the gateway does not offer SMTPUTF8")}
	case m.EightBit && !offered("8BITMIME"):
		return &refusal{DataErr, errors.New("the message is not ASCII, and the gateway does not offer 8BITMIME: encode it")}
	case m.wanted() && !offered("DSN"):
		t.outcome.NoReports = true
	}
	// go-smtp asks for BODY=8BITMIME wherever it is offered.
	return conn.Mail(m.Sender, &smtp.MailOptions{Size: m.Size, UTF8: m.UTF8, Return: smtp.DSNReturn(m.Return), EnvelopeID: m.ID})
}

// address names a recipient. An error ends the transaction.
func (t *transaction) address(recipient string) error {
	o := new(smtp.RcptOptions)
	for _, n := range t.message.Notify {
		o.Notify = append(o.Notify, smtp.DSNNotify(n))
	}
	err := t.conn.Rcpt(recipient, o)
	answer := new(smtp.SMTPError)
	switch {
	case err == nil:
		t.accepted = append(t.accepted, recipient)
	case !errors.As(err, &answer) || answer.Code == 421:
		return err
	case answer.Code == 452 && len(t.accepted) > 0: // RFC 5321 section 4.5.3.1.10
		t.surplus = append(t.surplus, recipient)
	default:
		t.outcome.fail([]string{recipient}, err)
	}
	return nil
}

// data sends the message. Unless the whole of it was sent, the connection has to
// be closed: an end of data would make it a message.
func (t *transaction) data() error {
	w, err := t.conn.Data()
	if err != nil {
		return err
	}
	watched := t.watch()
	defer watched.Stop()
	n, err := io.Copy(&progress{w, watched}, t.message.reader())
	switch {
	case err != nil:
		return err
	case n != t.message.Size:
		return &Error{IOErr, io.ErrUnexpectedEOF}
	}
	watched.Stop() // go-smtp has a timeout for the reply
	return w.Close()
}

// watchdog closes a connection on which nothing moves.
type watchdog struct {
	*time.Timer
	patience time.Duration
}

func (t *transaction) watch() *watchdog {
	patience := cmp.Or(t.sender.Stall, 5*time.Minute)
	conn := t.conn
	return &watchdog{time.AfterFunc(patience, func() { conn.Close() }), patience}
}

// progress tells a watchdog of every write.
type progress struct {
	w       io.Writer
	watched *watchdog
}

// Write implements io.Writer.
func (p *progress) Write(b []byte) (int, error) {
	p.watched.Reset(p.watched.patience)
	return p.w.Write(b)
}

// interrupted prefers the reason for which the connection was closed here.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &Error{TempFail, context.Cause(ctx)}
	}
	return err
}
