package guard

import (
	"bytes"
	"fmt"
	"strings"
)

// answer answers a command that imapserver does not know, or not well enough.
// args begins with a space, or is empty.
func (c *Conn) answer(cmd *command, args []byte) error {
	var lines []string
	status, text := "OK", cmd.name+" completed"
	switch {
	case cmd.name == "CAPABILITY" && len(args) == 0:
		lines = []string{"* CAPABILITY " + c.opts.Capabilities}
	case cmd.name == "ID" && validID(args):
		lines = []string{"* ID " + c.id()}
	case cmd.name == "GETQUOTA", cmd.name == "GETQUOTAROOT":
		name, ok := oneString(args)
		if !ok {
			status, text = "BAD", "Expected one string"
			break
		}
		lines, status, text = c.quota(cmd.name, name)
	default:
		status, text = "BAD", "Syntax error in "+cmd.name
	}
	if status == "OK" {
		for _, line := range lines {
			c.out.reply(line)
		}
	}
	return c.refuse(cmd, literal{}, status, text)
}

// id is the list in the answer to ID.
func (c *Conn) id() string {
	if len(c.opts.ID) == 0 {
		return "NIL"
	}
	var quoted []string
	for _, s := range c.opts.ID {
		quoted = append(quoted, quote(s))
	}
	return "(" + strings.Join(quoted, " ") + ")"
}

// validID checks the arguments of ID (RFC 2971 section 3.1).
func validID(args []byte) bool {
	if bytes.EqualFold(args, []byte(" NIL")) {
		return true
	}
	b, ok := bytes.CutPrefix(args, []byte(" ("))
	if !ok {
		return false
	}
	for n := 0; ; n++ {
		if string(b) == ")" {
			return n%2 == 0
		}
		if n > 0 {
			if b, ok = bytes.CutPrefix(b, []byte(" ")); !ok {
				return false
			}
		}
		if _, b, ok = nextString(b); !ok || n >= 60 {
			return false
		}
	}
}

// The one quota root has no name. STORAGE counts units of 1024 octets.
const quotaRoot = `""`

func (c *Conn) quota(command, name string) (lines []string, status, text string) {
	mailbox := "INBOX"
	if command == "GETQUOTAROOT" {
		var ok bool
		if mailbox, ok = decodeMailbox(name); !ok {
			return nil, "BAD", "Malformed mailbox name"
		}
	}
	if c.opts.Quota == nil {
		if command == "GETQUOTA" {
			return nil, "NO [NONEXISTENT]", "No such quota root"
		}
		return []string{"* QUOTAROOT " + quote(name)}, "OK", "GETQUOTAROOT completed"
	}
	used, limit, exists, err := c.opts.Quota(c.ctx, mailbox)
	switch {
	case err != nil:
		return nil, "NO [UNAVAILABLE]", "Quota cannot be told now"
	case command == "GETQUOTA" && name != "":
		return nil, "NO [NONEXISTENT]", "No such quota root"
	case !exists:
		return nil, "NO [NONEXISTENT]", "No such mailbox"
	}
	if command == "GETQUOTAROOT" {
		lines = append(lines, "* QUOTAROOT "+quote(name)+" "+quotaRoot)
	}
	resources := "()"
	if limit > 0 {
		resources = fmt.Sprintf("(STORAGE %d %d)", (used+1023)/1024, limit/1024)
	}
	return append(lines, "* QUOTA "+quotaRoot+" "+resources), "OK", command + " completed"
}

// oneString reads args that are a space and one string.
func oneString(args []byte) (string, bool) {
	b, ok := bytes.CutPrefix(args, []byte(" "))
	if !ok {
		return "", false
	}
	s, rest, ok := nextString(b)
	return s, ok && len(rest) == 0
}

// nextString cuts an atom or quoted string from b.
func nextString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) == 0 {
		return "", nil, false
	}
	if b[0] != '"' {
		n := 0
		for n < len(b) && (isAtomChar(b[n]) || b[n] == ']') {
			n++
		}
		return string(b[:n]), b[n:], n > 0
	}
	var sb strings.Builder
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return sb.String(), b[i+1:], true
		case '\\':
			if i++; i == len(b) {
				return "", nil, false
			}
		}
		sb.WriteByte(b[i])
	}
	return "", nil, false
}

// quote makes a quoted string of s, which has no CR, LF or NUL.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
