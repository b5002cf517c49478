package authkeys_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"posthorn/authkeys"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// keyPairs are one fresh key of each accepted type, and its name.
func keyPairs() map[string]crypto.Signer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	return map[string]crypto.Signer{
		"Ed25519":     must(ed, err),
		"ECDSA P-256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"ECDSA P-384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"ECDSA P-521": must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		"RSA 2048":    must(rsa.GenerateKey(rand.Reader, 2048)),
	}
}

func certificate(key crypto.Signer, name string) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotAfter:     time.Unix(1, 0), // long expired, which does not matter
	}
	return must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
}

func encodePEM(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

func spki(key crypto.Signer) []byte { return must(x509.MarshalPKIXPublicKey(key.Public())) }

func TestParsePublicKeyForms(t *testing.T) {
	for typ, key := range keyPairs() {
		cert := certificate(key, "Alice's \x1b[31mphone\r\n")
		private := encodePEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
		other := certificate(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "issuer")
		line := slices.Clip(bytes.TrimSpace(ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(key.Public())))))
		forms := []struct {
			name, comment string
			data          []byte
		}{
			{"certificate", "Alice's [31mphone", encodePEM("CERTIFICATE", cert)},
			{"certificate in DER", "Alice's [31mphone", cert},
			{"public key", "", encodePEM("PUBLIC KEY", spki(key))},
			{"public key in DER", "", spki(key)},
			{"OpenSSH", "", line},
			{"OpenSSH with comment and CRLF", "alice@phone", append(line, " alice@phone\r\n"...)},
			{"OpenSSH with options", "x", append([]byte("restrict,command=\"a b\" "), append(line, " x\n"...)...)},
			{"text around", "", bytes.Join([][]byte{[]byte("Subject: x\n"), encodePEM("PUBLIC KEY", spki(key)), []byte("bye")}, nil)},
			{"private key first", "Alice's [31mphone", append(private, encodePEM("CERTIFICATE", cert)...)},
			{"chain", "Alice's [31mphone", append(encodePEM("CERTIFICATE", cert), encodePEM("CERTIFICATE", other)...)},
			{"CRLF", "", bytes.ReplaceAll(encodePEM("PUBLIC KEY", spki(key)), []byte("\n"), []byte("\r\n"))},
		}
		for _, f := range forms {
			got, err := authkeys.ParsePublicKey(f.data)
			want := authkeys.PublicKey{Fingerprint: sha256.Sum256(spki(key)), Type: typ, Comment: f.comment}
			if err != nil || got != want {
				t.Errorf("%s as %s: got %+v, %v; want %+v", typ, f.name, got, err, want)
			}
		}
		got, err := authkeys.FromCertificate(must(x509.ParseCertificate(cert)))
		if want := sha256.Sum256(spki(key)); err != nil || got.Fingerprint != want || got.Type != typ || got.Comment != "" {
			t.Errorf("%s: FromCertificate = %+v, %v", typ, got, err)
		}
	}
}

func TestPKCS1PublicKey(t *testing.T) {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	got, err := authkeys.ParsePublicKey(encodePEM("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey)))
	if want := sha256.Sum256(spki(key)); err != nil || got.Fingerprint != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

// crypto/x509 refuses this certificate for its serial number.
func TestCertificateThatX509Refuses(t *testing.T) {
	cert := readFile("negative-serial.pem")
	block, _ := pem.Decode(cert)
	if _, err := x509.ParseCertificate(block.Bytes); err == nil {
		t.Fatal("crypto/x509 takes the certificate: the test shows nothing")
	}
	got, err := authkeys.ParsePublicKey(cert)
	want := must(authkeys.ParsePublicKey(readFile("negative-serial.pub.pem")))
	if err != nil || got.Fingerprint != want.Fingerprint || got.Comment != "weird" {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func readFile(name string) []byte { return must(os.ReadFile(filepath.Join("testdata", name))) }

// rsaOf returns an RSA public key with a modulus of so many bits that nobody
// had to search primes for.
func rsaOf(bits int) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
}

// opensshLine returns a line whose blob begins with its type.
func opensshLine(typ string, fields ...[]byte) []byte {
	blob := ssh.Marshal(struct{ T string }{typ})
	for _, f := range fields {
		blob = append(blob, ssh.Marshal(struct{ F []byte }{f})...)
	}
	return ssh.MarshalAuthorizedKey(rawKey{typ, blob})
}

type rawKey struct {
	typ  string
	blob []byte
}

func (k rawKey) Type() string                        { return k.typ }
func (k rawKey) Marshal() []byte                     { return k.blob }
func (k rawKey) Verify([]byte, *ssh.Signature) error { panic("not a real key") }

func TestUnacceptableTypes(t *testing.T) {
	pkix := func(k any) []byte { return encodePEM("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(k))) }
	ed := keyPairs()["Ed25519"].Public().(ed25519.PublicKey)
	tests := map[string][]byte{
		"RSA 1024":                   pkix(rsaOf(1024)),
		"RSA 2047":                   pkix(rsaOf(2047)),
		"RSA 8193":                   pkix(rsaOf(8193)),
		"RSA 65536":                  pkix(rsaOf(65536)),
		"ECDSA P-224":                pkix(must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)).Public()),
		"ECDSA 1.3.132.0.10":         readFile("secp256k1.pem"),
		"DSA":                        readFile("dsa.pem"),
		"Ed448":                      readFile("ed448.pem"),
		"X25519":                     readFile("x25519.pem"),
		"RSA-PSS":                    readFile("rsa-pss.pem"),
		"sk-ssh-ed25519@openssh.com": opensshLine("sk-ssh-ed25519@openssh.com", ed, []byte("ssh:")),
	}
	for typ, data := range tests {
		var e *authkeys.UnacceptableError
		if _, err := authkeys.ParsePublicKey(data); !errors.As(err, &e) || e.Type != typ {
			t.Errorf("%s: %v", typ, err)
		}
	}
	for bits, ok := range map[int]bool{2048: true, 8192: true, 2047: false, 8193: false} {
		if _, err := authkeys.ParsePublicKey(pkix(rsaOf(bits))); (err == nil) != ok {
			t.Errorf("RSA of %d bits: %v", bits, err)
		}
	}
}

func TestFromCertificateUnacceptable(t *testing.T) {
	for typ, key := range map[string]crypto.Signer{
		"RSA 1024":    must(rsa.GenerateKey(rand.Reader, 1024)),
		"ECDSA P-224": must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)),
	} {
		var e *authkeys.UnacceptableError
		_, err := authkeys.FromCertificate(must(x509.ParseCertificate(certificate(key, ""))))
		if !errors.As(err, &e) || e.Type != typ {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

func TestParsePublicKeyErrors(t *testing.T) {
	key := keyPairs()["ECDSA P-256"].(*ecdsa.PrivateKey)
	pkcs8 := must(x509.MarshalPKCS8PrivateKey(key))
	cert := certificate(key, "x")
	tests := []struct {
		name string
		data []byte
		want error
	}{
		{"nothing", nil, authkeys.ErrNoPublicKey},
		{"spaces", []byte(" \r\n\n"), authkeys.ErrNoPublicKey},
		{"words", []byte("hello world, this is no key"), authkeys.ErrNoPublicKey},
		{"NULs", make([]byte, 1000), authkeys.ErrNoPublicKey},
		{"private key", encodePEM("PRIVATE KEY", pkcs8), authkeys.ErrPrivateKey},
		{"encrypted private key", encodePEM("ENCRYPTED PRIVATE KEY", pkcs8), authkeys.ErrPrivateKey},
		{"EC private key", encodePEM("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(key))), authkeys.ErrPrivateKey},
		{"OpenSSH private key", pem.EncodeToMemory(must(ssh.MarshalPrivateKey(key, ""))), authkeys.ErrPrivateKey},
		{"private key in DER", pkcs8, authkeys.ErrPrivateKey},
		{"PKCS#12", readFile("bundle.p12"), authkeys.ErrPKCS12},
		{"cut certificate", encodePEM("CERTIFICATE", cert[:len(cert)/4]), authkeys.ErrNoPublicKey},
		{"empty certificate", encodePEM("CERTIFICATE", nil), authkeys.ErrNoPublicKey},
		{"cut public key", encodePEM("PUBLIC KEY", spki(key)[:40]), authkeys.ErrNoPublicKey},
		{"public key with more behind", encodePEM("PUBLIC KEY", append(spki(key), 0)), authkeys.ErrNoPublicKey},
		{"cut OpenSSH", ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(key.Public())))[:60], authkeys.ErrNoPublicKey},
		{"other type in front", append([]byte("ssh-rsa "), ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(key.Public())))[20:]...), authkeys.ErrNoPublicKey},
		{"bad base64", []byte("ssh-ed25519 ????"), authkeys.ErrNoPublicKey},
		{"Ed25519 of 31 bytes", opensshLine("ssh-ed25519", make([]byte, 31)), authkeys.ErrNoPublicKey},
		{"point off the curve", opensshLine("ecdsa-sha2-nistp256", []byte("nistp256"), append([]byte{4}, make([]byte, 64)...)), authkeys.ErrNoPublicKey},
		{"too long", bytes.Repeat([]byte("x"), 1<<20+1), authkeys.ErrTooLong},
	}
	for _, test := range tests {
		k, err := authkeys.ParsePublicKey(test.data)
		if !errors.Is(err, test.want) || k != (authkeys.PublicKey{}) {
			t.Errorf("%s: got %+v, %v; want %v", test.name, k, err, test.want)
		}
	}
}

func TestErrorsRepeatNothing(t *testing.T) {
	for _, data := range []string{
		"hunter2", "hunter2 AAAA", "ssh-hunter2 hunter2 hunter2",
		"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
		"-----BEGIN HUNTER2-----\naHVudGVyMg==\n-----END HUNTER2-----\n",
	} {
		if _, err := authkeys.ParsePublicKey([]byte(data)); err == nil || strings.Contains(strings.ToLower(err.Error()), "hunter2") {
			t.Errorf("%q: %v", data, err)
		}
	}
}

func FuzzParsePublicKey(f *testing.F) {
	for _, key := range keyPairs() {
		f.Add(certificate(key, "name"))
		f.Add(encodePEM("CERTIFICATE", certificate(key, "name")))
		f.Add(encodePEM("PUBLIC KEY", spki(key)))
		f.Add(ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(key.Public()))))
	}
	for _, file := range must(os.ReadDir("testdata")) {
		if file.Type().IsRegular() {
			f.Add(readFile(file.Name()))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := authkeys.ParsePublicKey(data)
		if (err == nil) != (!k.Fingerprint.IsZero() && k.Type != "") {
			t.Errorf("%+v, %v", k, err)
		}
		if strings.ContainsAny(k.Comment, "\x00\r\n\x1b") {
			t.Errorf("comment %q", k.Comment)
		}
	})
}
