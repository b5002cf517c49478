package autoconf

import (
	"fmt"
	"strings"
	"time"
)

// The modes of an MTA-STS policy.
const (
	Enforce = "enforce" // other servers deliver over TLS with a valid certificate, or not at all
	Testing = "testing" // they deliver all the same, and report
	None    = "none"    // the policy is withdrawn
)

// Policy is an MTA-STS policy (RFC 8461 section 3.2).
type Policy struct {
	Mode string
	// MX are the servers that mail for the domain is delivered to: host names, or
	// *.DOMAIN for those with one label more.
	MX []string
	// MaxAge is how long others keep the policy, 31557600 s at most.
	MaxAge time.Duration
}

// Text returns the policy as it is served.
func (p *Policy) Text() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "version: STSv1\r\nmode: %s\r\n", p.Mode)
	for _, mx := range p.MX {
		fmt.Fprintf(&b, "mx: %s\r\n", mx)
	}
	fmt.Fprintf(&b, "max_age: %d\r\n", int64(p.MaxAge.Seconds()))
	return []byte(b.String())
}
