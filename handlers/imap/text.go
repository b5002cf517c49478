package imap

import (
	"cmp"
	"context"
	"strings"

	"posthorn/imapline"
)

// say sends lines.
func (d *dialog) say(lines ...string) error {
	_, err := d.conn.Conn.Write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
	return err
}

// bye says goodbye; there is nothing to be done when that fails.
func (d *dialog) bye(text string) { _ = d.say("* BYE " + imapline.Printable(text)) }

// proceed asks for a literal.
func (d *dialog) proceed() error { return d.say("+ Ready for literal data") }

// greet sends the greeting.
func (d *dialog) greet(ctx context.Context) error {
	return d.say("* OK [CAPABILITY " + d.capabilities(ctx) + "] " + d.name() + " ready")
}

// name is what the server calls itself.
func (d *dialog) name() string {
	return imapline.Printable(cmp.Or(d.Hostname, d.conn.ServerName, "IMAP server"))
}

// capabilities are those before login. In cleartext no mechanism is among them.
func (d *dialog) capabilities(ctx context.Context) string {
	caps := []string{"IMAP4rev1", "LITERAL-", "SASL-IR", "ID"}
	if d.auth == nil {
		return strings.Join(append(caps, "STARTTLS", "LOGINDISABLED"), " ")
	}
	for _, mechanism := range d.auth.Mechanisms(ctx) {
		caps = append(caps, "AUTH="+mechanism)
	}
	return strings.Join(caps, " ")
}

// id answers ID (RFC 2971). What the client says of itself is chatter, which a
// server behind may hear at login.
func (d *dialog) id(tag string, p *imapline.Parser) error {
	fields, err := p.ID()
	if err != nil {
		return err
	}
	d.client.Names = fields
	if e := d.Log.Debug(); e != nil && len(fields) > 0 {
		e.Uint64("id", d.conn.ID).Strs("client", fields).Msg("client names itself")
	}
	answer := "NIL"
	if len(d.ID) > 0 {
		answer = `("` + strings.Join(d.ID, `" "`) + `")`
	}
	return d.say("* ID "+answer, tag+" OK ID completed")
}
