package alpn_test

import (
	"crypto/tls"
	"testing"

	"posthorn/alpn"
)

func TestTLSConfig(t *testing.T) {
	insecure := map[uint16]bool{}
	for _, s := range tls.InsecureCipherSuites() {
		insecure[s.ID] = true
	}
	// The last two of crypto/tls's default suites for TLS 1.2 are CBC.
	for _, id := range []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	} {
		insecure[id] = true
	}
	mail := alpn.Route{Class: alpn.Mail, Protocol: alpn.IMAP, NextProto: "imap", RequestCert: true}
	c := mail.TLSConfig(0)
	for _, id := range c.CipherSuites {
		if insecure[id] {
			t.Errorf("offers %s", tls.CipherSuiteName(id))
		}
	}
	if c.MinVersion != tls.VersionTLS12 || c.ClientAuth != tls.RequestClientCert || c.ClientCAs != nil {
		t.Errorf("mail: version %x, client auth %v, CAs %v", c.MinVersion, c.ClientAuth, c.ClientCAs)
	}
	if len(c.NextProtos) != 1 || c.NextProtos[0] != "imap" {
		t.Errorf("mail: protocols %q", c.NextProtos)
	}

	c = alpn.Route{}.TLSConfig(tls.VersionTLS13)
	if c.MinVersion != tls.VersionTLS13 || c.ClientAuth != tls.NoClientCert || c.NextProtos != nil {
		t.Errorf("web: version %x, client auth %v, protocols %q", c.MinVersion, c.ClientAuth, c.NextProtos)
	}
}
