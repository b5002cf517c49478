package backend

import (
	"strconv"
	"strings"
)

// smtpOffer is what a server says in reply to EHLO: the parameters of each
// extension, by its keyword in upper case.
type smtpOffer map[string]string

// parseSMTPOffer reads the lines of a reply to EHLO, the first of which is the
// server's name (RFC 5321 section 4.1.1.1).
func parseSMTPOffer(lines []string) smtpOffer {
	o := make(smtpOffer)
	for _, line := range lines[min(1, len(lines)):] {
		keyword, parameters, _ := strings.Cut(line, " ")
		if keyword = strings.ToUpper(keyword); keyword != "" {
			o[keyword] = strings.TrimSpace(parameters)
		}
	}
	return o
}

func (o smtpOffer) has(keyword string) bool {
	_, ok := o[keyword]
	return ok
}

// authenticates reports whether a SASL mechanism is offered (RFC 4954
// section 3).
func (o smtpOffer) authenticates(mechanism string) bool {
	for _, m := range strings.Fields(o["AUTH"]) {
		if strings.EqualFold(m, mechanism) {
			return true
		}
	}
	return false
}

// submission is what o says to those who submit messages.
func (o smtpOffer) submission() Submission {
	size, err := strconv.ParseInt(o["SIZE"], 10, 64)
	if err != nil || size < 0 {
		size = 0 // RFC 1870 section 4: no limit, or none that is told
	}
	return Submission{
		MaxSize:      size,
		EightBitMIME: o.has("8BITMIME"),
		UTF8:         o.has("SMTPUTF8"),
		DSN:          o.has("DSN"),
	}
}

// and is what s and t both can do.
func (s Submission) and(t Submission) Submission {
	if s.MaxSize == 0 || t.MaxSize != 0 && t.MaxSize < s.MaxSize {
		s.MaxSize = t.MaxSize
	}
	s.EightBitMIME = s.EightBitMIME && t.EightBitMIME
	s.UTF8 = s.UTF8 && t.UTF8
	s.DSN = s.DSN && t.DSN
	s.AnySender = s.AnySender && t.AnySender
	return s
}
