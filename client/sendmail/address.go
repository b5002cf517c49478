package sendmail

import (
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// mailbox is one of a list of addresses, as it was written.
type mailbox struct {
	name    string // its display name, ready to stand in a header field; or empty
	address string // what is between the angle brackets, or stands alone
}

// mailboxes splits a list of addresses (RFC 5322 section 3.4). It takes what
// people and programs write: names without a domain, dots in names, groups, and
// commas without anything between them. It does not look at the addresses.
func mailboxes(list string) (all []mailbox, err error) {
	if strings.ContainsAny(list, "\r\n") { // those of a header field are unfolded
		return nil, failure(DataErr, "%q has line breaks", short(list))
	}
	p := listParser{}
	for i := 0; i < len(list); i++ {
		c := list[i]
		switch {
		case (p.quoted || p.depth > 0) && c == '\\' && i+1 < len(list):
			i++
			p.put(c, list[i])
		case p.quoted:
			p.quoted = c != '"'
			p.put(c)
		case p.depth > 0 || c == '(':
			p.comment(c)
		case c == '"':
			p.quoted = true
			p.put(c)
		case c == '<' && !p.angle && !p.closed:
			p.angle = true
		case c == '>' && p.angle:
			p.angle, p.closed = false, true
		case p.angle:
			p.address.WriteByte(c)
		case c == ':' && !strings.Contains(p.text.String(), "["): // what stood before is the name of a group
			p = listParser{}
		case c == ',' || c == ';':
			if all, err = p.end(all); err != nil {
				return nil, err
			}
			p = listParser{}
		default:
			p.put(c)
		}
	}
	return p.end(all)
}

// listParser is where mailboxes is in an item of its list.
type listParser struct {
	text, address, remark strings.Builder // outside of <>, inside, and in a comment
	quoted, angle, closed bool
	behind                bool // something stands behind the brackets
	depth                 int  // of comments
}

func (p *listParser) put(octets ...byte) {
	switch {
	case p.depth > 0:
		p.remark.Write(octets[len(octets)-1:])
	case p.angle:
		p.address.Write(octets)
	default:
		p.text.Write(octets)
		p.behind = p.behind || p.closed && octets[0] != ' ' && octets[0] != '\t'
	}
}

func (p *listParser) comment(c byte) {
	switch {
	case c == '(':
		p.depth++
		if p.depth == 1 {
			return
		}
	case c == ')':
		if p.depth--; p.depth == 0 {
			return
		}
	}
	p.remark.WriteByte(c)
}

func (p *listParser) end(all []mailbox) ([]mailbox, error) {
	text := strings.TrimSpace(p.text.String())
	switch {
	case p.quoted || p.depth > 0 || p.angle:
		return nil, failure(DataErr, "%q has an open quote, bracket or comment", short(text))
	case p.behind:
		return nil, failure(DataErr, "%q is not an address, but perhaps two", short(text))
	case p.closed:
		address := strings.TrimSpace(p.address.String())
		if strings.HasPrefix(address, "@") { // a source route (RFC 5322 section 4.4)
			_, address, _ = strings.Cut(address, ":")
		}
		return append(all, mailbox{text, address}), nil
	case text == "":
		return all, nil
	}
	return append(all, mailbox{phrase(strings.TrimSpace(p.remark.String())), text}), nil
}

// phrase makes text fit to be a display name (RFC 5322 section 3.2.5, RFC 2047).
func phrase(text string) string {
	switch {
	case text == "":
		return ""
	case strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf || r < ' ' || r == 0x7f }):
		return mime.QEncoding.Encode("utf-8", text)
	case strings.HasPrefix(text, "=?") && strings.HasSuffix(text, "?=") && !strings.ContainsAny(text, " \"\\<>()"):
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// maxAddress is what an address may be long: a path without its brackets (RFC
// 5321 section 4.5.3.1.3).
const maxAddress = 254

// checkAddress checks an address and returns it as it goes into an envelope: with
// the domain in ASCII, if that spares it SMTPUTF8. What needs quotes is refused, as
// gateways refuse it.
func checkAddress(a string) (string, error) {
	i := strings.LastIndexByte(a, '@')
	if i < 0 {
		return "", failure(DataErr, "%q is no address: there is no @ in it", short(a))
	}
	local, domain := a[:i], a[i+1:]
	if n := len(local); n > 2 && local[0] == '"' && local[n-1] == '"' {
		local = local[1 : n-1]
	}
	if !isASCII(domain) && isASCII(local) {
		if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
			domain = ascii
		}
	}
	const special = "()<>[]:;@\\,\" \t"
	inBrackets := strings.HasPrefix(domain, "[") && strings.HasSuffix(domain, "]") && !strings.ContainsAny(domain[1:len(domain)-1], "()<>[];@\\,\" \t")
	switch {
	case local == "" || domain == "" || len(local)+len(domain) >= maxAddress || !utf8.ValidString(a) || strings.ContainsFunc(a, isControl):
		return "", failure(DataErr, "%q is no address", short(a))
	case strings.ContainsAny(local, special) || strings.ContainsAny(domain, special) && !inBrackets:
		return "", failure(DataErr, "%q is no address that can be written to", short(a))
	}
	return local + "@" + domain, nil
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 }

func isASCII[S string | []byte](s S) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// domainOf returns what stands behind an address's @; or nothing.
func domainOf(a string) string { return a[strings.LastIndexByte(a, '@')+1:] }

// short cuts what is quoted in an error.
func short(s string) string {
	const most = 80
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
