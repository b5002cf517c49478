package imap

import (
	"bytes"
	"cmp"
	"context"
	"strings"
)

// say sends lines.
func (d *dialog) say(lines ...string) error {
	_, err := d.conn.Conn.Write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
	return err
}

// bye says goodbye; there is nothing to be done when that fails.
func (d *dialog) bye(text string) { _ = d.say("* BYE " + printable(text)) }

// proceed asks for a literal.
func (d *dialog) proceed() error { return d.say("+ Ready for literal data") }

// greet sends the greeting.
func (d *dialog) greet(ctx context.Context) error {
	return d.say("* OK [CAPABILITY " + d.capabilities(ctx) + "] " + d.name() + " ready")
}

// name is what the server calls itself.
func (d *dialog) name() string {
	return printable(cmp.Or(d.Hostname, d.conn.ServerName, "IMAP server"))
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
func (d *dialog) id(tag string, p *parser) error {
	fields, err := parseID(p)
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

const maxIDField = 128 // bytes of a field or value that are kept

// parseID reads SP ("(" [string SP nstring …] ")" / "NIL").
func parseID(p *parser) (fields []string, err error) {
	if err := p.space(); err != nil {
		return nil, err
	}
	if bytes.EqualFold(p.line, []byte("NIL")) {
		p.line = nil
		return nil, nil
	}
	if !p.take('(') {
		return nil, syntaxError("Expected a list")
	}
	for !p.take(')') {
		if len(fields) > 0 {
			if err := p.space(); err != nil {
				return nil, err
			}
		}
		s, err := p.astring() // values may be NIL
		if err != nil {
			return nil, err
		}
		if fields = append(fields, printable(s[:min(len(s), maxIDField)])); len(fields) > 60 {
			return nil, syntaxError("Too many fields")
		}
	}
	if len(fields)%2 != 0 {
		return nil, syntaxError("A field has no value")
	}
	return fields, p.end()
}

// isForeign reports whether a line is of HTTP or SMTP: its sender is lost, or
// a browser that somebody makes talk to us.
func isForeign(line []byte) bool {
	first, _, _ := bytes.Cut(line, []byte(" "))
	last := line[bytes.LastIndexByte(line, ' ')+1:]
	return bytes.EqualFold(first, []byte("EHLO")) || bytes.EqualFold(first, []byte("HELO")) ||
		len(last) == len("HTTP/1.1") && bytes.HasPrefix(last, []byte("HTTP/"))
}

// printable makes a text fit for a response line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
