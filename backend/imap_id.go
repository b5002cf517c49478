package backend

import (
	"net/netip"
	"strconv"
	"strings"
)

// Dovecot's limits for ID before login; RFC 2971 has the same.
const (
	maxIDFields = 30
	maxIDName   = 30
	maxIDValue  = 256
)

// idCommand tells a server of a client with ID: where it comes from, in the
// words that Dovecot takes from those in its login_trusted_networks, and what
// it says of itself. session is the connection's name in both logs.
func idCommand(c *Client, session string) []byte {
	b := append(make([]byte, 0, 256), tagID+" ID ("...)
	fields := 0
	field := func(name, value string) {
		if fields > 0 {
			b = append(b, ' ')
		}
		fields++
		b = appendQuoted(append(appendQuoted(b, name), ' '), value)
	}
	address := func(ip, port string, a netip.AddrPort) {
		if a.IsValid() {
			field(ip, a.Addr().Unmap().WithZone("").String())
			field(port, strconv.Itoa(int(a.Port())))
		}
	}
	address("x-originating-ip", "x-originating-port", c.Remote)
	address("x-connected-ip", "x-connected-port", c.Local)
	field("x-session-id", session)
	for i := 0; i+1 < len(c.Names) && fields < maxIDFields; i += 2 {
		if name, value := c.Names[i], c.Names[i+1]; passesID(name, value) {
			field(name, value)
		}
	}
	return append(b, ")\r\n"...)
}

// passesID reports whether a field from a client is passed on. What begins with
// x- may be taken for the gateway's word.
func passesID(name, value string) bool {
	return name != "" && len(name) <= maxIDName && len(value) <= maxIDValue &&
		!(len(name) >= 2 && strings.EqualFold(name[:2], "x-")) && quotable(name) && quotable(value)
}
