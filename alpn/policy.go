package alpn

import "crypto/tls"

// TLSConfig is the TLS policy of a route: protocol versions, cipher suites and
// whether a client certificate is requested. Certificates and ticket keys are
// the caller's to add. minVersion is tls.VersionTLS12 or tls.VersionTLS13.
//
// Everything that it leaves alone is crypto/tls's choice: the groups (with
// X25519MLKEM768 first), no renegotiation, no compression, no early data, no
// SHA-1 signatures.
func (r Route) TLSConfig(minVersion uint16) *tls.Config {
	c := &tls.Config{
		MinVersion: max(minVersion, tls.VersionTLS12),
		// RFC 9325 section 4.2: ephemeral key exchange and authenticated
		// encryption; crypto/tls alone would still take CBC. In TLS 1.3 there
		// is nothing else, and this field has no say.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	if r.NextProto != "" {
		c.NextProtos = []string{r.NextProto}
	}
	if r.RequestCert {
		// Any certificate will do, as its key alone counts: nothing is
		// verified but the possession of the private key. Without ClientCAs
		// the CertificateRequest names no issuers.
		c.ClientAuth = tls.RequestClientCert
	}
	return c
}
