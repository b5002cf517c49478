package accounts

import (
	"fmt"
	"net/netip"

	"posthorn/authkeys"
	"posthorn/sources"
)

// subject is whom password failures are counted against: the key that a peer
// has proved, or else its network source.
type subject struct {
	key    authkeys.Fingerprint
	source netip.Prefix // see sources.Of; invalid: a peer without an address
}

func keySubject(f authkeys.Fingerprint) subject { return subject{key: f} }

func sourceSubject(addr netip.Addr) subject { return subject{source: sources.Of(addr)} }

// String is what Block.Source says and Unblock reads.
func (s subject) String() string {
	switch {
	case !s.key.IsZero():
		return s.key.String()
	case !s.source.IsValid():
		return "local"
	case s.source.Addr().Is4():
		return s.source.Addr().String()
	}
	return s.source.String()
}

// parseSubject is the inverse of String; it takes any address of a source.
func parseSubject(text string) (subject, error) {
	if text == "local" {
		return subject{}, nil
	}
	if f, err := authkeys.ParseFingerprint(text); err == nil {
		return keySubject(f), nil
	}
	if p, err := netip.ParsePrefix(text); err == nil && p.Masked() == sources.Of(p.Addr()) {
		return sourceSubject(p.Addr()), nil
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		return sourceSubject(addr), nil
	}
	return subject{}, fmt.Errorf("%q is no IP address, IPv6 /64 or key fingerprint", text)
}
