package certs_test

import (
	"crypto/tls"
	"testing"

	"posthorn/certs"
)

func BenchmarkGetCertificate(b *testing.B) {
	dir := b.TempDir()
	files := []certs.Files{
		testPair(b, dir, "rsa", rsaKey(), farOff, "one.example", "two.example"),
		testPair(b, dir, "ec", ecKey(), farOff, "two.example"),
	}
	m := newManager(b, certs.Config{Names: []string{"one.example", "two.example", "own.example"}, Files: files})
	for _, bench := range []struct{ what, name string }{
		{"one", "one.example"}, {"two", "two.example"}, {"self-signed", "own.example"}, {"unknown", "none.example"}, {"upper case", "ONE.example"},
	} {
		b.Run(bench.what, func(b *testing.B) {
			hello := &tls.ClientHelloInfo{
				ServerName:        bench.name,
				SupportedVersions: []uint16{tls.VersionTLS13},
				SupportedCurves:   []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
				SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256},
				CipherSuites:      []uint16{tls.TLS_AES_128_GCM_SHA256},
			}
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if _, err := m.GetCertificate(hello); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
