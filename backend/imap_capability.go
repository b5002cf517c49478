package backend

import "strings"

// imapOffer is what matters before login of a server's capabilities.
type imapOffer struct {
	saslIR, id, literals     bool // RFC 4959, RFC 2971, RFC 7888
	plain, external, noLogin bool
}

func parseIMAPOffer(capabilities string) imapOffer {
	var o imapOffer
	for name := range strings.FieldsSeq(capabilities) {
		switch {
		case strings.EqualFold(name, "SASL-IR"):
			o.saslIR = true
		case strings.EqualFold(name, "ID"):
			o.id = true
		case strings.EqualFold(name, "LITERAL+"), strings.EqualFold(name, "LITERAL-"):
			o.literals = true
		case strings.EqualFold(name, "AUTH=PLAIN"):
			o.plain = true
		case strings.EqualFold(name, "AUTH=EXTERNAL"):
			o.external = true
		case strings.EqualFold(name, "LOGINDISABLED"):
			o.noLogin = true
		}
	}
	return o
}

// afterLogin leaves out of a capability list what is the gateway's: TLS, and
// the ways to log in, which are over. UNAUTHENTICATE (RFC 8437) would have
// another login follow, of which the gateway does not hear.
func afterLogin(capabilities string) string {
	var sb strings.Builder
	sb.Grow(len(capabilities))
	for name := range strings.FieldsSeq(capabilities) {
		switch {
		case strings.EqualFold(name, "STARTTLS"), strings.EqualFold(name, "LOGINDISABLED"),
			strings.EqualFold(name, "UNAUTHENTICATE"), len(name) > 5 && strings.EqualFold(name[:5], "AUTH="):
			continue
		}
		if sb.Len() > 0 {
			sb.WriteByte(' ')
		}
		sb.WriteString(name)
	}
	return sb.String()
}
