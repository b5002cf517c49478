package client

import (
	"fmt"
	"slices"
	"strings"
)

// enterSubmission logs in on a connection whose greeting has yet to be read, and
// returns the keywords of EHLO.
func (d *Dialer) enterSubmission(c *Conn, r *responses) ([]string, error) {
	s := smtpLogin{r}
	if _, _, err := s.reply(220); err != nil {
		return nil, err
	}
	if err := s.say("EHLO localhost"); err != nil { // the machine's own name is nobody's business
		return nil, err
	}
	_, lines, err := s.reply(250)
	if err != nil {
		return nil, err
	}
	offers := lines[1:]
	var names []string
	for _, o := range offers {
		if rest, ok := cutFold(o, "AUTH "); ok {
			names = strings.Fields(strings.ToUpper(rest))
		}
	}
	if c.Shown && len(names) == 0 {
		return offers, nil
	}
	offered := func(name string) bool { return slices.Contains(names, name) }
	return offers, d.authenticate(c, offered, s.authenticate)
}

// smtpLogin is the dialog before a login.
type smtpLogin struct{ *responses }

// authenticate carries a SASL exchange (RFC 4954 section 4).
func (s smtpLogin) authenticate(x exchange) error {
	begin := func(mechanism string, initial *string) error {
		line := "AUTH " + mechanism
		if initial != nil {
			line += " " + *initial
		}
		return s.say(line)
	}
	return s.sasl(x, begin, func() (string, bool, error) {
		code, lines, err := s.reply(334, 235)
		if err != nil {
			return "", false, err
		}
		return lines[0], code == 334, nil
	})
}

// reply reads a reply with one of some codes; another one is a *refusal. There is
// at least one line; those behind it are printable.
func (s smtpLogin) reply(want ...int) (code int, lines []string, err error) {
	for {
		line, err := s.line()
		if err != nil {
			return 0, nil, err
		}
		n, text, last, ok := parseReply(line)
		if !ok || lines != nil && n != code {
			return 0, nil, fmt.Errorf("%w: %q", errMalformed, oneLine(line))
		}
		if code = n; isPrintable(text) || lines == nil {
			lines = append(lines, text)
		}
		switch {
		case !last:
		case slices.Contains(want, code):
			return code, lines, nil
		default:
			return code, nil, &refusal{oneLine(line)}
		}
	}
}

// parseReply reads a line of a reply (RFC 5321 section 4.2).
func parseReply(line string) (code int, text string, last, ok bool) {
	if len(line) < 3 {
		return 0, "", false, false
	}
	for _, ch := range []byte(line[:3]) {
		if ch < '0' || ch > '9' {
			return 0, "", false, false
		}
		code = 10*code + int(ch-'0')
	}
	switch rest := line[3:]; {
	case rest == "":
		return code, "", true, true
	case rest[0] == ' ' || rest[0] == '-':
		return code, rest[1:], rest[0] == ' ', true
	}
	return 0, "", false, false
}
