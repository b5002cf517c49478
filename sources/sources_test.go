package sources_test

import (
	"net/netip"
	"testing"

	"posthorn/sources"
)

func TestOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":                  "192.0.2.1/32",
		"::ffff:192.0.2.1":           "192.0.2.1/32",
		"2001:db8:1:2:3:4:5:6":       "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::":        "2001:db8:1:2::/64",
		"fe80::1%eth0":               "fe80::/64",
		"fe80::1%a name / with more": "fe80::/64",
	} {
		if got := sources.Of(netip.MustParseAddr(addr)); got != netip.MustParsePrefix(want) {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if got := sources.Of(netip.Addr{}); got.IsValid() || got != (netip.Prefix{}) {
		t.Errorf("no address: %s", got)
	}
}
