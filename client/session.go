package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"posthorn/alpn"
)

// Session is a connection that has logged in, for whoever speaks the protocol
// itself. What the gateway has sent behind the login is still to be read.
type Session struct {
	*Conn
	// Offers is what the gateway has said after the login that it can do:
	// capabilities of IMAP, or the keywords of EHLO with their parameters, in its
	// order. They are printable ASCII.
	Offers []string
}

// Session connects and logs in, as IMAP and Submission do, and hands over the
// connection itself. In submission EHLO has been said.
func (d *Dialer) Session(ctx context.Context, p alpn.Protocol) (*Session, error) {
	return login(ctx, d, p, func(ctx context.Context, c *Conn) (*Session, error) {
		r := &responses{conn: c}
		defer wake(ctx, c.wire)()
		var offers []string
		var err error
		if p == alpn.IMAP {
			offers, err = d.enterIMAP(c, r)
		} else {
			offers, err = d.enterSubmission(c, r)
		}
		if err != nil {
			c.wire.Close()
			return nil, err
		}
		c.early = bytes.Clone(r.buf)
		return &Session{c, offers}, nil
	})
}

// What a server may say until it has logged somebody in.
const (
	maxResponse  = 8 << 10  // octets of a line
	maxResponses = 64 << 10 // of all
)

var (
	errTalkative = errors.New("the server says too much before the login")
	errMalformed = errors.New("not a response of the protocol")
)

// responses reads a server's lines.
type responses struct {
	conn  *Conn
	buf   []byte // received and not taken yet
	taken int
}

// line returns the next line without its end. It is valid until the next call.
func (r *responses) line() (string, error) {
	for {
		if i := bytes.IndexByte(r.buf, '\n'); i >= 0 {
			line := r.buf[:i]
			r.buf = r.buf[i+1:]
			if r.taken += i; i > maxResponse || r.taken > maxResponses {
				return "", errTalkative
			}
			return string(bytes.TrimSuffix(line, []byte("\r"))), nil
		}
		if len(r.buf) > maxResponse {
			return "", errTalkative
		}
		chunk := make([]byte, 4096)
		n, err := r.conn.Read(chunk)
		r.buf = append(r.buf, chunk[:n]...)
		if n == 0 && err != nil {
			return "", err
		}
	}
}

// say sends a line.
func (r *responses) say(line string) error {
	_, err := r.conn.Write([]byte(line + "\r\n"))
	return err
}

// refusal is a server's answer that is not the one that was wanted.
type refusal struct{ text string }

func (e *refusal) Error() string { return "the server answers " + e.text }

// sasl carries an exchange on a protocol in which begin sends the command with
// its initial response, if there is one, and next returns the server's challenge,
// or more false at the end.
func (r *responses) sasl(x exchange, begin func(mechanism string, initial *string) error, next func() (challenge string, more bool, err error)) error {
	name, response, err := x.Start()
	if err != nil {
		return err
	}
	var initial *string
	if response != nil {
		text := encodeSASL(response)
		initial = &text
	}
	if err := begin(name, initial); err != nil {
		return err
	}
	for {
		text, more, err := next()
		if err != nil || !more {
			return err
		}
		challenge, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("%w: %w", errMalformed, err)
		}
		answer, err := x.Next(challenge)
		if err != nil {
			_ = r.say("*")
			_, _, _ = next()
			return exchangeError{err}
		}
		if err := r.say(base64.StdEncoding.EncodeToString(answer)); err != nil {
			return err
		}
	}
}

// encodeSASL encodes an initial response, of which the empty one is "=" (RFC 4959
// section 3, RFC 4954 section 4).
func encodeSASL(response []byte) string {
	if len(response) == 0 {
		return "="
	}
	return base64.StdEncoding.EncodeToString(response)
}

// words splits what a server offers in words that can be repeated to others.
func words(s string) []string {
	all := []string{}
	for _, w := range strings.Fields(s) {
		if isPrintable(w) {
			all = append(all, w)
		}
	}
	return all
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
