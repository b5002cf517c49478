package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"posthorn/alpn"
	"posthorn/authkeys"
)

// Report is what Probe found.
type Report struct {
	Host   string    `json:"host"`
	Routes []Finding `json:"routes"`
	// Certificate is the one that was shown on the port of every protocol; nil:
	// none was seen.
	Certificate *CertificateFinding `json:"certificate,omitempty"`
	ALPN        ALPNFinding         `json:"alpn"`
	ECH         ECHFinding          `json:"ech"`
}

// Reachable reports whether any route leads to the gateway.
func (r *Report) Reachable() bool {
	for _, f := range r.Routes {
		if f.OK {
			return true
		}
	}
	return false
}

// Finding is how one route fared.
type Finding struct {
	Route
	OK bool `json:"ok"`
	// Plain says that a mail program that knows neither ALPN nor ECH, and no
	// keys, can go this way here.
	Plain bool `json:"plain"`

	// How long it took, in milliseconds, from the beginning to the end of each
	// step; 0: it was not reached.
	Connected int64 `json:"connected_ms,omitempty"`
	Secured   int64 `json:"secured_ms,omitempty"`
	Greeted   int64 `json:"greeted_ms,omitempty"`

	TLS         string `json:"tls,omitempty"`  // the version
	Negotiated  string `json:"alpn,omitempty"` // by ALPN
	ECHAccepted bool   `json:"ech_accepted,omitempty"`
	Greeting    string `json:"greeting,omitempty"`

	// Of what failed: how far it came, in which way, and in words.
	Step   Step   `json:"step,omitempty"`
	Class  Class  `json:"class,omitempty"`
	Alert  uint8  `json:"alert,omitempty"`
	Status int    `json:"status,omitempty"` // of HTTP
	Reason string `json:"reason,omitempty"`
}

// CertificateFinding is a certificate that was shown.
type CertificateFinding struct {
	Names    []string             `json:"names"`
	Issuer   string               `json:"issuer"`
	NotAfter time.Time            `json:"not_after"`
	Key      authkeys.Fingerprint `json:"key"` // to pin
	// Verified says that it is valid for the gateway; else Reason says why not.
	Verified bool   `json:"verified"`
	Reason   string `json:"reason,omitempty"`
}

// ALPNFinding is what the port of every protocol makes of an offer that nobody
// can accept (RFC 7301 section 3.2).
type ALPNFinding struct {
	State  ALPNState `json:"state"`
	Reason string    `json:"reason,omitempty"`
}

// ALPNState is how strict a server is about ALPN.
type ALPNState string

const (
	ALPNStrict  ALPNState = "strict"  // refused with no_application_protocol, as it should be
	ALPNLenient ALPNState = "lenient" // accepted all the same
	ALPNUnknown ALPNState = "unknown" // it could not be told
)

// ECHFinding is the state of Encrypted Client Hello.
type ECHFinding struct {
	Found      bool   `json:"found"`                 // there is a configuration
	PublicName string `json:"public_name,omitempty"` // what observers see
	Accepted   bool   `json:"accepted"`              // on some route
	Reason     string `json:"reason,omitempty"`      // why there is none
}

// Probe tries routes to both protocols, all at once, as far as the greeting;
// without kinds, all that there are. It shows no key and sends no password, so
// nobody is logged in.
func (d *Dialer) Probe(ctx context.Context, kinds ...Kind) (*Report, error) {
	anonymous := d.config
	anonymous.Identity, anonymous.User, anonymous.Password = nil, "", ""
	if len(kinds) == 0 {
		kinds = AllRoutes()
	}
	anonymous.Routes, anonymous.Memory = kinds, nil
	p, err := New(anonymous)
	if err != nil {
		return nil, err
	}
	r := &Report{Host: p.config.Host}
	var routes []Route
	for _, protocol := range []alpn.Protocol{alpn.IMAP, alpn.SMTP} {
		all, err := p.routes(protocol)
		if err != nil {
			return nil, err
		}
		routes = append(routes, all...)
	}
	r.Routes = make([]Finding, len(routes))
	certificates := make([]*CertificateFinding, len(routes))
	var running sync.WaitGroup
	for i, route := range routes {
		running.Go(func() { r.Routes[i], certificates[i] = p.probe(ctx, route) })
	}
	running.Go(func() { r.ALPN = p.probeALPN(ctx) })
	running.Go(func() { r.ECH = p.probeECH(ctx) })
	running.Wait()
	for i, f := range r.Routes {
		r.ECH.Accepted = r.ECH.Accepted || f.ECHAccepted
		if c := certificates[i]; c != nil && (r.Certificate == nil || f.Kind == ALPN && f.Protocol == alpn.IMAP) {
			r.Certificate = c
		}
	}
	return r, context.Cause(ctx)
}

// probe tries a route, and tells of the certificate that it saw.
func (d *Dialer) probe(ctx context.Context, r Route) (Finding, *CertificateFinding) {
	c, failed := d.try(ctx, r, newTurn())
	if failed != nil {
		return Finding{
			Route: r, Step: failed.Step, Class: failed.Class, Alert: failed.Alert, Status: failed.Status, Reason: failed.Reason(),
			Connected: milliseconds(failed.Times.Connected), Secured: milliseconds(failed.Times.Secured),
		}, refusedCertificate(failed.Err)
	}
	defer c.wire.Close()
	state := c.ConnectionState()
	return Finding{
		Route: r, OK: true, Plain: r.Plain(),
		Connected: milliseconds(c.Times.Connected), Secured: milliseconds(c.Times.Secured), Greeted: milliseconds(c.Times.Greeted),
		TLS: tls.VersionName(state.Version), Negotiated: state.NegotiatedProtocol, ECHAccepted: state.ECHAccepted,
		Greeting: oneLine(c.Greeting()),
	}, describe(state.PeerCertificates[0], nil)
}

// milliseconds is at least 1 for what has taken place.
func milliseconds(d time.Duration) int64 {
	if d == 0 {
		return 0
	}
	return max(1, d.Milliseconds())
}

func describe(c *x509.Certificate, err error) *CertificateFinding {
	f := &CertificateFinding{
		Issuer: oneLine(c.Issuer.String()), NotAfter: c.NotAfter, Key: sha256.Sum256(c.RawSubjectPublicKeyInfo), Verified: err == nil,
	}
	for _, n := range c.DNSNames {
		f.Names = append(f.Names, oneLine(n))
	}
	for _, ip := range c.IPAddresses {
		f.Names = append(f.Names, ip.String())
	}
	if err != nil {
		f.Reason = oneLine(err.Error())
	}
	return f
}

// refusedCertificate is the certificate that was the reason of an error.
func refusedCertificate(err error) *CertificateFinding {
	var unverified *tls.CertificateVerificationError
	if !errors.As(err, &unverified) || len(unverified.UnverifiedCertificates) == 0 {
		return nil
	}
	return describe(unverified.UnverifiedCertificates[0], unverified.Err)
}

// unserved is a protocol that is registered, and that no gateway serves.
const unserved = "pop3"

// alertNoProtocol is no_application_protocol.
const alertNoProtocol = 120

func (d *Dialer) probeALPN(ctx context.Context) ALPNFinding {
	r, err := d.route(ALPN, unserved)
	if err != nil {
		return ALPNFinding{ALPNUnknown, oneLine(err.Error())}
	}
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	a := &attempt{d: d, route: r, turn: newTurn(), began: time.Now(), step: Connecting}
	c, err := a.shakeOnce(ctx, d.tlsConfig(r))
	if err == nil {
		c.wire.Close()
		return ALPNFinding{State: ALPNLenient}
	}
	e := a.fault(err)
	switch {
	case e.Class == Alerted && e.Alert == alertNoProtocol:
		return ALPNFinding{State: ALPNStrict}
	case e.Class == Misdirected:
		return ALPNFinding{State: ALPNLenient}
	}
	return ALPNFinding{ALPNUnknown, e.Reason()}
}

func (d *Dialer) probeECH(ctx context.Context) ECHFinding {
	r, err := d.route(ECH, alpn.IMAP)
	if err != nil {
		return ECHFinding{Reason: oneLine(err.Error())}
	}
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	list, err := d.ech.list(ctx, r.proxy != nil)
	if err != nil {
		return ECHFinding{Reason: oneLine(err.Error())}
	}
	return ECHFinding{Found: true, PublicName: oneLine(publicName(list))}
}

// publicName reads the public name of the first ECHConfig of a list that has one
// (RFC 9849 section 4).
func publicName(list []byte) string {
	var configs cryptobyte.String
	in := cryptobyte.String(list)
	if !in.ReadUint16LengthPrefixed(&configs) {
		return ""
	}
	for !configs.Empty() {
		var version uint16
		var config, key, suites, name cryptobyte.String
		if !configs.ReadUint16(&version) || !configs.ReadUint16LengthPrefixed(&config) {
			return ""
		}
		if version == 0xfe0d && config.Skip(3) && // config_id, kem_id
			config.ReadUint16LengthPrefixed(&key) && config.ReadUint16LengthPrefixed(&suites) &&
			config.Skip(1) && // maximum_name_length
			config.ReadUint8LengthPrefixed(&name) {
			return string(name)
		}
	}
	return ""
}
