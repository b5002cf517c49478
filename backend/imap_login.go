package backend

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"posthorn/accounts"
)

// imapCredentials are what a login is made with.
type imapCredentials struct {
	method Method // empty: with the user's own password
	credentials
}

// errIMAPNoWay says that the server and the configured login do not fit.
var errIMAPNoWay = fmt.Errorf("%w: it does not offer a mechanism for this login", accounts.ErrNotAsked)

// logIn logs in, once, and returns the capabilities from then on, and what the
// server has said to the user since. id, if it is not empty, is what is said of
// the client with ID first. Everything that need not wait for an answer leaves
// in one write. A server that does not tell the capabilities is asked for them,
// if they are not known.
func (d *imapDialog) logIn(cred imapCredentials, offer imapOffer, id []byte, known string) (capabilities string, head []byte, err error) {
	parts, err := cred.commands(id, offer)
	if err != nil {
		return "", nil, err
	}
	d.sent = &cred
	if _, err := d.conn.Write(parts[0]); err != nil {
		return "", nil, err
	}
	r, err := d.result(parts[1:])
	switch {
	case err != nil:
		return "", nil, err
	case r.status != "OK":
		return "", nil, d.refusal(cred.method, r)
	}
	if list, ok := r.capabilities(); ok {
		return list, nil, nil
	}
	if known != "" {
		return known, nil, nil
	}
	// An untagged list that came before may be of the time before the login.
	capabilities, err = d.capabilities(func(r imapReply) { head = append(append(head, r.line...), "\r\n"...) })
	return capabilities, head, err
}

// result sends what is left of a login, a part for each time the server asks,
// and returns the answer, which can be a goodbye.
func (d *imapDialog) result(parts [][]byte) (r imapReply, err error) {
	for {
		r, err = d.next()
		switch {
		case err != nil:
			return r, err
		case r.tag == tagLogin, r.tag == "*" && r.status == "BYE":
			return r, nil
		case r.tag == "+" && len(parts) > 0:
			if _, err = d.conn.Write(parts[0]); err != nil {
				return r, err
			}
			parts = parts[1:]
		case r.tag != "*" && r.tag != tagID:
			return r, d.complain(errIMAPUnexpected, r.line)
		}
	}
}

// refusal is the error for a login that the server has not taken. Only answers
// that are about the user are passed on.
func (d *imapDialog) refusal(m Method, r imapReply) error {
	wrong := r.code == "" || r.codeIs("AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED")
	switch {
	case r.status == "BYE" && wrong:
		return d.complain(errIMAPBye, r.line)
	case r.status != "NO" && r.status != "BYE", d.sent.repeatedIn(r.code):
		return d.complain(errIMAPUnexpected, r.line)
	case m == "" && wrong:
		return d.complain(accounts.ErrWrongPassword, r.line)
	case m != "" && (wrong || r.codeIs("EXPIRED", "PRIVACYREQUIRED")):
		return d.complain(fmt.Errorf("%s: %w", m, ErrRefused), r.line)
	}
	return &goimap.Error{
		Type: goimap.StatusResponseTypeNo,
		Code: goimap.ResponseCode(printable(cut(r.code))),
		Text: printable(d.fit(r.text)),
	}
}

// commands returns what is to be sent: the command, behind what is in b, and
// then a part for each time the server asks for one.
func (cred *imapCredentials) commands(b []byte, offer imapOffer) ([][]byte, error) {
	switch {
	case cred.method == ProxyCN && offer.external:
		return authenticate(b, "EXTERNAL", nil, offer), nil
	case cred.method == ProxyCN:
		return nil, fmt.Errorf("%w: AUTH=EXTERNAL", errIMAPNoWay)
	case offer.plain:
		return authenticate(b, "PLAIN", cred.plain(), offer), nil
	case cred.identity != "":
		return nil, fmt.Errorf("%w: AUTH=PLAIN", errIMAPNoWay)
	case offer.noLogin:
		return nil, fmt.Errorf("%w: AUTH=PLAIN or LOGIN", errIMAPNoWay)
	}
	return login(b, cred.user, cred.password, offer), nil
}

// authenticate is AUTHENTICATE with a response (RFC 9051 section 6.2.2), which
// goes with it if the server takes that (RFC 4959).
func authenticate(b []byte, mechanism string, response []byte, offer imapOffer) [][]byte {
	b = append(append(b, tagLogin+" AUTHENTICATE "...), mechanism...)
	switch {
	case !offer.saslIR:
		encoded := base64.StdEncoding.AppendEncode(nil, response)
		return [][]byte{append(b, "\r\n"...), append(encoded, "\r\n"...)}
	case len(response) == 0:
		return [][]byte{append(b, " =\r\n"...)}
	}
	b = base64.StdEncoding.AppendEncode(append(b, ' '), response)
	return [][]byte{append(b, "\r\n"...)}
}

// login is LOGIN (RFC 9051 section 6.2.3).
func login(b []byte, user, password string, offer imapOffer) (parts [][]byte) {
	b = append(b, tagLogin+" LOGIN"...)
	for _, s := range [...]string{user, password} {
		b = append(b, ' ')
		if quotable(s) {
			b = appendQuoted(b, s)
			continue
		}
		b = strconv.AppendInt(append(b, '{'), int64(len(s)), 10)
		if offer.literals {
			b = append(b, "+}\r\n"...)
		} else {
			parts = append(parts, append(b, "}\r\n"...))
			b = nil
		}
		b = append(b, s...)
	}
	return append(parts, append(b, "\r\n"...))
}

// maxQuoted is for how long a string may be quoted: lines are bounded,
// literals less so.
const maxQuoted = 512

// quotable reports whether s fits in a quoted string of IMAP4rev1.
func quotable(s string) bool {
	return len(s) <= maxQuoted && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// appendQuoted appends a quotable string.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for _, ch := range []byte(s) {
		if ch == '"' || ch == '\\' {
			b = append(b, '\\')
		}
		b = append(b, ch)
	}
	return append(b, '"')
}
