package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// enterIMAP logs in on a connection whose greeting has yet to be read, and
// returns the capabilities after that.
func (d *Dialer) enterIMAP(c *Conn, r *responses) ([]string, error) {
	s := &imapLogin{responses: r}
	preauthenticated := c.Preauthenticated()
	line, err := r.line()
	if err != nil {
		return nil, err
	}
	s.note(line)
	if !preauthenticated {
		if err := s.needCapabilities(); err != nil {
			return nil, err
		}
		offered := func(name string) bool {
			return slices.ContainsFunc(s.caps, func(c string) bool { return strings.EqualFold(c, "AUTH="+name) })
		}
		if err := d.authenticate(c, offered, s.authenticate); err != nil {
			return nil, err
		}
	}
	if err := s.needCapabilities(); err != nil {
		return nil, err
	}
	return s.caps, nil
}

// imapLogin is the dialog before a login.
type imapLogin struct {
	*responses
	caps []string // the server's, as of now; nil: unknown
	tags int
}

// needCapabilities asks for the capabilities, unless they were told.
func (s *imapLogin) needCapabilities() error {
	if s.caps != nil {
		return nil
	}
	tag := s.tag()
	if err := s.say(tag + " CAPABILITY"); err != nil {
		return err
	}
	if _, _, err := s.answer(tag); err != nil {
		return err
	}
	if s.caps == nil {
		return errors.New("the server tells no capabilities")
	}
	return nil
}

func (s *imapLogin) tag() string {
	s.tags++
	return fmt.Sprintf("T%d", s.tags)
}

// authenticate carries a SASL exchange. The capabilities of before it are not
// those of after it.
func (s *imapLogin) authenticate(x exchange) (err error) {
	tag := s.tag()
	before := s.caps
	saslIR := slices.ContainsFunc(before, func(c string) bool { return strings.EqualFold(c, "SASL-IR") })
	s.caps = nil
	defer func() {
		if err != nil {
			s.caps = before
		}
	}()
	var later *string // the initial response, for the first challenge
	begin := func(mechanism string, initial *string) error {
		line := tag + " AUTHENTICATE " + mechanism
		switch {
		case initial == nil:
		case saslIR:
			line += " " + *initial
		default:
			later = initial
		}
		return s.say(line)
	}
	next := func() (string, bool, error) {
		text, more, err := s.answer(tag)
		if err == nil && more && later != nil {
			response := strings.TrimPrefix(*later, "=")
			later = nil
			if err = s.say(response); err == nil {
				text, more, err = s.answer(tag)
			}
		}
		return text, more, err
	}
	return s.sasl(x, begin, next)
}

// answer reads up to a continuation request, whose text it returns, or the tagged
// OK. Another tagged response is a *refusal.
func (s *imapLogin) answer(tag string) (challenge string, more bool, err error) {
	for {
		line, err := s.line()
		if err != nil {
			return "", false, err
		}
		if strings.HasSuffix(line, "}") { // a literal, of which nothing before a login has need
			return "", false, fmt.Errorf("%w: a literal", errMalformed)
		}
		if text, ok := strings.CutPrefix(line, "+"); ok {
			return strings.TrimPrefix(text, " "), true, nil
		}
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case word == "*" && hasFold([]byte(rest), "BYE"):
			return "", false, &refusal{oneLine(line)}
		case word == "*":
			s.note(line)
		case word != tag:
			return "", false, fmt.Errorf("%w: %q", errMalformed, oneLine(line))
		case !hasFold([]byte(rest+" "), "OK "):
			return "", false, &refusal{oneLine(rest)}
		default:
			s.note(line)
			return "", false, nil
		}
	}
}

// note keeps the capabilities that a response tells (RFC 9051 section 7.2.2).
func (s *imapLogin) note(line string) {
	_, rest, _ := strings.Cut(line, " ")
	if text, ok := cutFold(rest, "CAPABILITY "); ok && strings.HasPrefix(line, "*") {
		s.caps = words(text)
		return
	}
	_, code, found := strings.Cut(rest, " [")
	text, ok := cutFold(code, "CAPABILITY ")
	if !found || !ok {
		return
	}
	text, _, _ = strings.Cut(text, "]")
	s.caps = words(text)
}

func cutFold(s, prefix string) (string, bool) {
	if !hasFold([]byte(s), prefix) {
		return "", false
	}
	return s[len(prefix):], true
}
