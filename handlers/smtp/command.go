package smtp

import (
	"math"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPath is the longest address in octets: RFC 5321 section 4.5.3.1.3.
const maxPath = 256

// dispatch does what a command line asks for, or has go-smtp do it.
func (g *guard) dispatch(line string) {
	if foreign(line) {
		g.hangUp(replyForeign, "another protocol")
		return
	}
	verb, arg, _ := strings.Cut(line, " ")
	verb, arg = strings.ToUpper(verb), strings.Trim(arg, " \t")
	switch verb {
	case "EHLO", "HELO":
		g.greet(verb, arg)
	case "MAIL":
		g.passPath(verb, arg, "FROM:", g.helo && !g.mail, g.mailParameter)
	case "RCPT":
		g.passPath(verb, arg, "TO:", g.mail, g.rcptParameter)
	case "DATA":
		g.passBare(verb, arg, g.rcpts > 0)
	case "BDAT":
		g.chunk(arg)
	case "RSET":
		g.passBare(verb, arg, true)
	case "QUIT":
		g.pass(verb, "")
	case "AUTH":
		g.auth(arg)
	default:
		g.answer(verb)
	}
}

// answer replies to the commands that go-smtp need not know. None says
// anything about who or what is here.
func (g *guard) answer(verb string) {
	switch verb {
	case "NOOP":
		g.reply(replyNoop)
	case "VRFY":
		g.reply(replyVerify)
	case "HELP":
		g.reply(replyHelp)
	case "STARTTLS":
		g.refuse(replyInTLS)
	case "EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML", "BURL":
		g.refuse(replyUnbuilt)
	default:
		g.refuse(replyUnknown)
	}
}

// passBare passes a command without argument when it is its turn.
func (g *guard) passBare(verb, arg string, turn bool) {
	switch {
	case arg != "":
		g.refuse(replyArgument)
	case !turn:
		g.refuse(replySequence)
	default:
		g.pass(verb, "")
	}
}

// greet checks EHLO and HELO. RFC 5321 section 4.1.4 has a server go on when
// the name is not the client's; a name that is none goes nowhere.
func (g *guard) greet(verb, name string) {
	if !validName(name) {
		g.refuse(replyBadHelo)
		return
	}
	g.name = name
	g.pass(verb, name)
}

// validName reports whether an EHLO argument can be a domain name or an
// address literal (RFC 5321 section 4.1.1.1). Host names that people give
// their computers are let through; what could end a word, a comment or a line
// of a Received field is not.
func validName(s string) bool {
	if s == "" || len(s) > 255 || !utf8.ValidString(s) {
		return false
	}
	if literal, ok := strings.CutPrefix(s, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		if v6, is6 := cutPrefixFold(literal, "IPv6:"); is6 {
			literal = v6
		}
		addr, err := netip.ParseAddr(literal)
		return ok && err == nil && plain(addr.Zone(), "")
	}
	return plain(s, "-._:")
}

// isLiteral reports whether s is an IP address as RFC 5321 section 4.1.3 writes
// it in place of a domain.
func isLiteral(s string) bool {
	s, open := strings.CutPrefix(s, "[")
	s, closed := strings.CutSuffix(s, "]")
	s, is6 := cutPrefixFold(s, "IPv6:")
	addr, err := netip.ParseAddr(s)
	return open && closed && err == nil && addr.Is6() == is6 && addr.Zone() == ""
}

// plain reports whether s has only letters, digits and the others.
func plain(s, others string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(others, r)
	})
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// passPath checks MAIL and RCPT (RFC 5321 section 4.1.2), whose arguments
// go-smtp reads leniently: it takes the quotes off local parts.
func (g *guard) passPath(verb, arg, prefix string, turn bool, parameter func(key, value string) (refusal string)) {
	if !turn {
		g.refuse(replySequence)
		return
	}
	path, parameters, ok := splitPath(arg, prefix)
	switch {
	case !ok:
		g.refuse(replyBadPath)
		return
	case strings.ContainsAny(path, `"\`):
		g.refuse(replyQuoted)
		return
	case !utf8.ValidString(arg):
		g.refuse(replyBadUTF8)
		return
	}
	given, passed := make(map[string]bool), []string{prefix + "<" + path + ">"}
	for _, p := range parameters {
		key, value, _ := strings.Cut(p, "=")
		key = strings.ToUpper(key)
		refusal := parameter(key, value)
		switch {
		case refusal != "":
		case given[key]:
			refusal = replyTwice
		case strings.ContainsFunc(p, unicode.IsSpace): // where go-smtp would see two
			refusal = replyBadParameter
		}
		if refusal != "" {
			g.refuse(refusal)
			return
		}
		given[key] = true
		if key != "AUTH" { // who it names is not proved, so nobody asks: RFC 4954 section 5
			passed = append(passed, p)
		}
	}
	g.pass(verb, strings.Join(passed, " "))
}

// splitPath takes "FROM:<path> KEY=value …" apart. The space that many clients
// put before the bracket is allowed.
func splitPath(arg, prefix string) (path string, parameters []string, ok bool) {
	arg, ok = cutPrefixFold(arg, prefix)
	if !ok {
		return "", nil, false
	}
	arg, ok = strings.CutPrefix(strings.TrimLeft(arg, " "), "<")
	path, rest, closed := strings.Cut(arg, ">")
	if !ok || !closed || len(path) > maxPath || strings.ContainsAny(path, "< \t") {
		return "", nil, false
	}
	if rest != "" && rest[0] != ' ' {
		return "", nil, false
	}
	return path, strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' }), true
}

// auth checks AUTH (RFC 4954 section 4). Two spaces before the mechanism and
// one behind it are clients' habits.
func (g *guard) auth(arg string) {
	words := strings.Fields(arg)
	switch {
	case !g.helo, g.mail:
		g.refuse(replySequence)
	case len(words) == 0, len(words) > 2:
		g.refuse(replyBadAuth)
	case len(words) == 2 && words[1] != "=" && !isBase64(words[1]):
		g.refuse(replyBadBase64)
	default:
		g.pass("AUTH", strings.Join(words, " "))
	}
}

// chunk begins a message with BDAT (RFC 3030). A chunk follows its command
// whatever the reply: one whose end is not known, or far, ends the connection.
func (g *guard) chunk(arg string) {
	size, last, ok := parseChunk(arg)
	switch {
	case !ok:
		g.hangUp(replyBadChunk, "bad chunk size")
	case size > g.discardable():
		g.hangUp(replyTooBig, "message too big")
	case g.rcpts == 0:
		c := &chunked{g: g, left: size}
		if c.drain(size) == nil {
			g.refuse(replySequence)
		}
	default:
		g.body = newBody(&chunked{g: g, left: size, last: last}, g.limit)
		g.pass("DATA", "")
		g.command = "BDAT"
	}
}

// discardable is how much of an unwanted message is read for the sake of the
// reply behind it.
func (g *guard) discardable() int64 { return 2*g.limit + 1<<20 }

// parseChunk reads BDAT's argument: "1024" or "1024 LAST".
func parseChunk(arg string) (size int64, last, ok bool) {
	digits, end, more := strings.Cut(arg, " ")
	if strings.Trim(digits, "0123456789") != "" {
		return 0, false, false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > math.MaxInt64 {
		return 0, false, false
	}
	last = strings.EqualFold(strings.TrimLeft(end, " "), "LAST")
	return int64(n), last, !more || last
}

// methods are the verbs of HTTP (RFC 9110, RFC 5789) and of the HTTP/2 preface.
var methods = map[string]bool{
	"GET": true, "HEAD": true, "POST": true, "PUT": true, "DELETE": true, "CONNECT": true,
	"OPTIONS": true, "TRACE": true, "PATCH": true, "PRI": true,
}

// imapCommands follow the tag of a client that thinks this is IMAP.
var imapCommands = map[string]bool{
	"CAPABILITY": true, "LOGIN": true, "AUTHENTICATE": true, "NOOP": true, "LOGOUT": true, "ID": true,
	"STARTTLS": true, "SELECT": true, "EXAMINE": true, "LIST": true, "ENABLE": true, "IDLE": true,
	"UID": true, "FETCH": true, "APPEND": true, "NAMESPACE": true, "STATUS": true,
}

// foreign reports whether a line is of another protocol: a page in a browser
// can make one send HTTP here, with SMTP commands further down (ALPACA).
func foreign(line string) bool {
	first, rest, _ := strings.Cut(line, " ")
	if methods[first] || strings.HasSuffix(first, ":") {
		return true
	}
	second, _, _ := strings.Cut(rest, " ")
	return imapCommands[strings.ToUpper(second)] && !commands[strings.ToUpper(first)]
}

// commands are those whose argument may be the name of an IMAP command.
var commands = map[string]bool{
	"EHLO": true, "HELO": true, "NOOP": true, "VRFY": true, "EXPN": true, "HELP": true, "AUTH": true,
	"RSET": true, "QUIT": true, "STARTTLS": true,
}
