package certs

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"posthorn/alpn"
	"posthorn/authkeys"
)

// ErrOtherKey says that a connection from outside ended at another key than
// that of the gateway: at another server, or at something in between.
var ErrOtherKey = errors.New("the server shows another key than the gateway's")

// Probe is what a client from outside sees of a name.
type Probe struct {
	Name, Address string // Address is HOST:PORT as connected to
	NotAfter      time.Time
	Issuer        string
	SPKI          authkeys.Fingerprint
	// ChainErr says why a client that trusts the usual CAs would not trust the
	// chain or the name; nil: it would.
	ChainErr error
	// ECH says whether ECH was accepted; false when it was not tried.
	ECH bool
}

// ProbeConfig says how to connect.
type ProbeConfig struct {
	// Name is the server name.
	Name string
	// Address is HOST:PORT to connect to; a host name is looked up as clients do.
	Address string
	// Protocol is what to offer as ALPN; empty: nothing.
	Protocol alpn.Protocol
	// Roots are what the chain is verified with; nil: the system's.
	Roots *x509.CertPool
	// ECHConfigList is what a client would find in the DNS; nil: no ECH.
	ECHConfigList []byte
}

// probeTimeout bounds connecting and the handshake.
const probeTimeout = 10 * time.Second

// Look connects as a client would, and returns what it sees. Its error is that
// there was no handshake.
func Look(ctx context.Context, c ProbeConfig) (*Probe, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p := &Probe{Name: c.Name}
	config := &tls.Config{
		ServerName:                     c.Name,
		EncryptedClientHelloConfigList: c.ECHConfigList,
		// The chain is verified below, so that what is wrong with it can be shown
		// beside it.
		InsecureSkipVerify: true,
	}
	if c.ECHConfigList != nil {
		config.MinVersion = tls.VersionTLS13
	}
	if c.Protocol != "" {
		config.NextProtos = []string{string(c.Protocol)}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.Name, err)
	}
	defer conn.Close()
	p.Address = conn.RemoteAddr().String()
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("connect to %s at %s: %w", c.Name, p.Address, err)
	}
	state := client.ConnectionState()
	leaf := state.PeerCertificates[0]
	p.NotAfter, p.Issuer, p.ECH = leaf.NotAfter, leaf.Issuer.CommonName, state.ECHAccepted
	p.SPKI = sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, p.ChainErr = leaf.Verify(x509.VerifyOptions{DNSName: c.Name, Roots: c.Roots, Intermediates: between})
	return p, nil
}

// Check looks at a name from outside and compares what it sees with what the
// manager serves: ErrNotServed, ErrOtherKey, the chain's error, or Look's.
func (m *Manager) Check(ctx context.Context, c ProbeConfig) (*Probe, error) {
	all, err := m.StatusOf(c.Name)
	if err != nil {
		return nil, err
	}
	p, err := Look(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.SPKI == p.SPKI {
			return p, p.ChainErr
		}
	}
	return p, errors.Join(fmt.Errorf("%s at %s: %w", c.Name, p.Address, ErrOtherKey), p.ChainErr)
}
