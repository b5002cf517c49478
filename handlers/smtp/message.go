package smtp

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net/mail"
	"net/netip"
	"strings"
	"time"
)

// compose returns the message to pass on: in, with what submission has to add
// (RFC 6409 section 8), once its header is checked. It holds the header in
// memory and streams the rest.
func (s *session) compose(in io.Reader) (io.Reader, error) {
	r := bufio.NewReader(in)
	h, begun, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	own, err := s.authored(h)
	if err != nil {
		return nil, err
	}
	now := s.h.now()
	id := rand.Text()

	var b bytes.Buffer
	s.writeReceived(&b, id, now)
	if !h.has("date") {
		fmt.Fprintf(&b, "Date: %s\r\n", now.Format(dateLayout))
	}
	if !h.has("message-id") {
		_, domain, _ := strings.Cut(s.sender, "@")
		fmt.Fprintf(&b, "Message-ID: <%s@%s>\r\n", id, domain)
	}
	b.Write(own)
	b.WriteString("\r\n")
	b.Write(begun)
	return io.MultiReader(&b, r), nil
}

// dateLayout is RFC 5322's date-time.
const dateLayout = "Mon, 2 Jan 2006 15:04:05 -0700"

// authored returns the header's fields with a From field of the account's, as
// far as the policy wants one.
func (s *session) authored(h *header) ([]byte, error) {
	foreign := h.checkAuthor(s.own)
	switch {
	case s.h.From == FromReplace && foreign != nil:
		from := mail.Address{Name: h.displayName(), Address: s.sender}
		return append(fromField(from), h.without("from", "sender")...), nil
	case s.h.From != FromAllow && foreign != nil:
		return nil, foreign
	case !h.has("from"):
		return append(fromField(mail.Address{Address: s.sender}), h.raw...), nil
	}
	return h.raw, nil
}

// own reports whether an address may stand in a message's From field. Where the
// backend decides whose name an account may send in, it decides that too.
func (s *session) own(address string) bool { return s.anySender || s.login.Account.Has(address) }

func fromField(a mail.Address) []byte { return []byte("From: " + a.String() + "\r\n") }

// writeReceived writes the one trace field (RFC 5321 section 4.4). Every
// submission is over TLS and by somebody known, whether AUTH or the TLS key
// said so: that is ESMTPSA (RFC 3848), or UTF8SMTPSA (RFC 6531 section 4.3).
func (s *session) writeReceived(b *bytes.Buffer, id string, now time.Time) {
	b.WriteString("Received: ")
	if s.h.ReceivedFrom {
		name := s.guard.name
		if !isASCII(name) {
			name = "unknown"
		}
		fmt.Fprintf(b, "from %s (%s)\r\n\t", name, addressLiteral(s.conn.Remote.Addr()))
	}
	with := "ESMTPSA"
	if s.utf8 {
		with = "UTF8SMTPSA"
	}
	fmt.Fprintf(b, "by %s with %s id %s", s.h.hostname(), with, id)
	if state := s.conn.TLS(); state != nil { // RFC 8314 section 4.3
		fmt.Fprintf(b, "\r\n\ttls %s", tls.CipherSuiteName(state.CipherSuite))
	}
	fmt.Fprintf(b, ";\r\n\t%s\r\n", now.Format(dateLayout))
}

// addressLiteral is RFC 5321 section 4.1.3's form of an IP address.
func addressLiteral(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		return "[IPv6:" + a.String() + "]"
	}
	return "[" + a.String() + "]"
}
