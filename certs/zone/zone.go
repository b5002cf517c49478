// Package zone computes the DNS records that a deployment wants, and compares
// them with what resolves. It changes no zone: whoever runs the zone does.
package zone

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"posthorn/alpn"
)

// Deployment is what the records are computed from. All names are host names in
// lower case without a final dot.
type Deployment struct {
	// Domain is the mail domain: what stands behind the @ of addresses.
	Domain string
	// Hostname is the gateway's own name, which dedicated ports go by.
	Hostname string
	// Addresses are where the gateway can be reached from outside.
	Addresses []netip.Addr
	// IMAP and Submission are the names that lead to these on the shared port;
	// the first of each is the one that clients are told.
	IMAP, Submission []string
	// Autoconfig and MTASTS are the names that the mail domain's settings and
	// MTA-STS policy are fetched from; empty: they are not.
	Autoconfig, MTASTS string
	// MTASTSID is the policy's id (RFC 8461 section 3.1); empty: there is none.
	MTASTSID string
	// Web are names that serve HTTPS besides those above.
	Web []string
	// SharedPort is where every protocol is served, normally 443. IMAPSPort and
	// SubmissionsPort are those of one protocol; zero: there is none.
	SharedPort, IMAPSPort, SubmissionsPort uint16
	// Keys are the SHA-256 of the public keys of a name's certificates.
	Keys map[string][][32]byte
	// Issuers are the CAs that may issue, as they call themselves in CAA records,
	// such as "letsencrypt.org"; none: no CAA record.
	Issuers []string
	// ECH is the ECHConfigList; nil: none.
	ECH []byte
}

// Record is one resource record.
type Record struct {
	Name string `json:"name"` // absolute, with its final dot
	Type string `json:"type"`
	Data string `json:"data"` // in the form of zone files
	// Why says what the record is good for.
	Why string `json:"why"`
	// About is the host or domain that it is about, without a final dot.
	About string `json:"about"`
}

// String returns the record as a line of a zone file.
func (r Record) String() string { return r.Name + " 3600 IN " + r.Type + " " + r.Data }

// Records returns the records that d wants, those that belong together side by
// side.
func Records(d Deployment) []Record {
	d.SharedPort = cmp.Or(d.SharedPort, 443)
	return slices.Concat(d.addresses(), d.services(), d.policy(), d.bindings(), d.keys(), d.issuers())
}

func fqdn(name string) string { return strings.TrimSuffix(name, ".") + "." }

// names returns the non-empty ones, each once.
func names(lists ...[]string) (all []string) {
	for _, name := range slices.Concat(lists...) {
		if name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

func (d *Deployment) web() []string {
	return names([]string{d.Hostname, d.Autoconfig, d.MTASTS}, d.Web)
}

func (d *Deployment) addresses() (all []Record) {
	for _, name := range names(d.web(), d.IMAP, d.Submission) {
		for _, a := range d.Addresses {
			kind := "A"
			if a = a.Unmap(); a.Is6() {
				kind = "AAAA"
			}
			all = append(all, Record{fqdn(name), kind, a.String(), "where clients connect to", name})
		}
	}
	return all
}

// services are the SRV records by which mail programs find their servers (RFC
// 6186, RFC 8314 section 5.1). The port that gets through comes first.
func (d *Deployment) services() (all []Record) {
	for _, s := range []struct {
		label string
		names []string
		port  uint16
	}{{"_imaps", d.IMAP, d.IMAPSPort}, {"_submissions", d.Submission, d.SubmissionsPort}} {
		owner := s.label + "._tcp." + fqdn(d.Domain)
		priority := 0
		add := func(port uint16, target string) {
			data := fmt.Sprintf("%d 1 %d %s", priority, port, fqdn(target))
			all = append(all, Record{owner, "SRV", data, "how mail programs find the server", d.Domain})
			priority += 10
		}
		if len(s.names) > 0 {
			add(d.SharedPort, s.names[0])
		}
		if s.port != 0 {
			add(s.port, d.Hostname)
		}
	}
	return all
}

func (d *Deployment) policy() []Record {
	if d.MTASTS == "" || d.MTASTSID == "" {
		return nil
	}
	data := fmt.Sprintf(`"v=STSv1; id=%s"`, d.MTASTSID)
	return []Record{{"_mta-sts." + fqdn(d.Domain), "TXT", data, "other mail servers must use TLS (RFC 8461)", d.Domain}}
}

// Binding is the data of an HTTPS or SVCB record (RFC 9460).
type Binding struct {
	Target string // without its final dot; empty: the owner's name
	ALPN   []alpn.Protocol
	Port   uint16 // zero: the scheme's own
	ECH    []byte // an ECHConfigList; nil: none
}

// String returns the data in the form of zone files.
func (b Binding) String() string {
	s := "1 " + b.Target + "."
	if len(b.ALPN) > 0 {
		list := make([]string, len(b.ALPN))
		for i, p := range b.ALPN {
			list[i] = string(p)
		}
		s += ` alpn="` + strings.Join(list, ",") + `"`
	}
	if b.Port != 0 {
		s += fmt.Sprintf(` port="%d"`, b.Port)
	}
	if b.ECH != nil {
		s += ` ech="` + base64.StdEncoding.EncodeToString(b.ECH) + `"`
	}
	return s
}

// Web is the binding of what HTTPS clients get on the port that they ask for.
func Web(echConfigList []byte) Binding {
	return Binding{ALPN: []alpn.Protocol{alpn.HTTP2, alpn.HTTP1}, ECH: echConfigList}
}

// bindings are the HTTPS and SVCB records. For mail no RFC says yet how clients
// look for them; the names follow RFC 9460 section 2.3 with the schemes that
// SRV records have too.
func (d *Deployment) bindings() (all []Record) {
	const why = "which protocols are spoken, and the keys of Encrypted Client Hello"
	for _, name := range d.web() {
		owner, b := fqdn(name), Web(d.ECH)
		if d.SharedPort != 443 {
			owner, b.Target = fmt.Sprintf("_%d._https.%s", d.SharedPort, owner), name
		}
		all = append(all, Record{owner, "HTTPS", b.String(), why, name})
	}
	for _, s := range []struct {
		label    string
		names    []string
		protocol alpn.Protocol
	}{{"_imaps.", d.IMAP, alpn.IMAP}, {"_submissions.", d.Submission, alpn.SMTP}} {
		for _, name := range names(s.names) {
			b := Binding{Target: name, ALPN: []alpn.Protocol{s.protocol}, Port: d.SharedPort, ECH: d.ECH}
			all = append(all, Record{s.label + fqdn(name), "SVCB", b.String(), why, name})
		}
	}
	return all
}

// keys are TLSA records for the public keys (RFC 6698: end entity, public key,
// SHA-256). They stay the same when certificates are renewed.
func (d *Deployment) keys() (all []Record) {
	const why = "pins the key, where the zone is signed with DNSSEC (RFC 7671)"
	add := func(name string, port uint16) {
		for _, key := range d.Keys[name] {
			owner := fmt.Sprintf("_%d._tcp.%s", port, fqdn(name))
			all = append(all, Record{owner, "TLSA", "3 1 1 " + hex.EncodeToString(key[:]), why, name})
		}
	}
	for _, name := range names(d.web(), d.IMAP, d.Submission) {
		add(name, d.SharedPort)
	}
	for _, port := range []uint16{d.IMAPSPort, d.SubmissionsPort} {
		if port != 0 {
			add(d.Hostname, port)
		}
	}
	return all
}

func (d *Deployment) issuers() (all []Record) {
	for _, name := range d.Issuers {
		data := fmt.Sprintf(`0 issue "%s"`, name)
		all = append(all, Record{fqdn(d.Domain), "CAA", data, "no other CA may issue certificates (RFC 8659)", d.Domain})
	}
	return all
}
