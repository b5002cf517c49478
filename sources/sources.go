// Package sources says whom an address belongs to, for everything that bounds what
// one of them may do: connections, passwords, sign-ups, requests.
package sources

import "net/netip"

// Of returns the source of an address: an IPv4 address is one of its own, and of
// IPv6 a /64, which is what one customer has to choose addresses from. The zero
// Prefix is that of the zero Addr: all who have no address are one source.
func Of(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits) // fails for the zero Addr only, and then p is zero too
	return p
}
