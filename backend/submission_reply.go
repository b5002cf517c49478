package backend

import (
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"
)

// smtpReply is a server's reply (RFC 5321 section 4.2).
type smtpReply struct {
	code  int
	lines []string // at least one; printable ASCII
}

// What a reply may measure. RFC 5321 section 4.5.3.1.5 has 512 octets for a
// line; servers put URLs into theirs.
const (
	maxReplyLine  = 1000
	maxReplyLines = 100
)

var (
	errReplyGarbled = errors.New("not an SMTP reply")
	errReplyTooLong = fmt.Errorf("more than %d lines in a reply", maxReplyLines)
)

// readSMTPReply reads a reply; readLine returns lines without their CRLF.
func readSMTPReply(readLine func(limit int) (string, error)) (smtpReply, error) {
	var r smtpReply
	for {
		line, err := readLine(maxReplyLine)
		if err != nil {
			return smtpReply{}, err
		}
		code, text, last, ok := parseReplyLine(line)
		switch {
		case !ok, len(r.lines) > 0 && code != r.code:
			return smtpReply{}, errReplyGarbled
		case len(r.lines) == maxReplyLines:
			return smtpReply{}, errReplyTooLong
		}
		r.code = code
		r.lines = append(r.lines, text)
		if last {
			return r, nil
		}
	}
}

// parseReplyLine takes a line of a reply apart. A code may stand alone: RFC
// 5321 section 4.2.1.
func parseReplyLine(line string) (code int, text string, last, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, "", false, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, "", true, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, "", false, false
	}
	return code, printable(line[4:]), line[3] == ' ', true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// printable returns a server's text with a question mark for all that could
// harm whoever shows it: a terminal, a log, a client without SMTPUTF8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ', r > '~':
			return '?'
		}
		return r
	}, s)
}

// wire is r as it came, but for what printable has changed.
func (r *smtpReply) wire() []byte {
	var b []byte
	for i, line := range r.lines {
		between := byte('-')
		if i == len(r.lines)-1 {
			between = ' '
		}
		b = fmt.Appendf(b, "%03d%c%s\r\n", r.code, between, line)
	}
	return b
}

// err is r as an error, for logs and for those who look for its code.
func (r *smtpReply) err() *smtp.SMTPError {
	return &smtp.SMTPError{Code: r.code, EnhancedCode: smtp.NoEnhancedCode, Message: strings.Join(r.lines, "\n")}
}

// What a client gets to see of a reply.
const (
	maxShownLine  = 480 // with code and line end within RFC 5321's 512 octets
	maxShownLines = 10
)

// verdict returns the refusal in err that a server has pronounced, as a client
// is to hear it: with its code, its enhanced code if it has one, and its text.
// Other replies are no answer to a command that failed: passed on, a 250 in the
// place of a 354 would claim that a message was taken.
func verdict(err error) (*smtp.SMTPError, bool) {
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) || reply.Code < 400 || reply.Code > 599 {
		return nil, false
	}
	shown := *reply
	if shown.EnhancedCode == smtp.EnhancedCodeNotSet { // else go-smtp makes one up
		shown.EnhancedCode = smtp.NoEnhancedCode
	}
	lines := strings.Split(shown.Message, "\n")
	lines = lines[:min(len(lines), maxShownLines)]
	for i, line := range lines {
		lines[i] = line[:min(len(line), maxShownLine)]
	}
	shown.Message = strings.Join(lines, "\n")
	return &shown, true
}
