package client_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"software.sslmate.com/src/go-pkcs12"

	"posthorn/authkeys"
	"posthorn/client"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func encodePEM(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

func fingerprintOf(key crypto.Signer) authkeys.Fingerprint {
	return sha256.Sum256(must(x509.MarshalPKIXPublicKey(key.Public())))
}

// keyForms are every form in which a key of each type may come.
func keyForms(t testing.TB) map[string]struct {
	data []byte
	key  crypto.Signer
} {
	t.Helper()
	forms := make(map[string]struct {
		data []byte
		key  crypto.Signer
	})
	add := func(name string, key crypto.Signer, data []byte) {
		forms[name] = struct {
			data []byte
			key  crypto.Signer
		}{data, key}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rs := must(rsa.GenerateKey(rand.Reader, 2048))
	seed := base64.RawURLEncoding.EncodeToString(must(ed, err).Seed())
	for name, key := range map[string]crypto.Signer{"Ed25519": ed, "ECDSA": ec, "RSA": rs} {
		pkcs8 := must(x509.MarshalPKCS8PrivateKey(key))
		add(name+" PKCS #8", key, encodePEM("PRIVATE KEY", pkcs8))
		add(name+" PKCS #8 in DER", key, pkcs8)
		add(name+" with text around", key, append([]byte("my key\n"), encodePEM("PRIVATE KEY", pkcs8)...))
		add(name+" OpenSSH", key, pem.EncodeToMemory(must(ssh.MarshalPrivateKey(key, "me"))))
		add(name+" OpenSSH encrypted", key, pem.EncodeToMemory(must(ssh.MarshalPrivateKeyWithPassphrase(key, "me", []byte("secret")))))
	}
	add("SEC 1", ec, encodePEM("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ec))))
	add("PKCS #1", rs, encodePEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rs)))
	add("parameters before SEC 1", ec, append(encodePEM("EC PARAMETERS", []byte{6, 1, 2}), encodePEM("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ec)))...))
	add("seed", ed, []byte(seed))
	add("seed in a file", ed, []byte("  "+seed+"\r\n"))
	return forms
}

func TestParseIdentityForms(t *testing.T) {
	for name, form := range keyForms(t) {
		i, err := client.ParseIdentity(form.data, "secret")
		if err != nil || i.Fingerprint() != fingerprintOf(form.key) {
			t.Errorf("%s: %v, %v", name, i, err)
			continue
		}
		if pair := i.TLS(); len(pair.Certificate) != 1 || !pair.Leaf.Equal(i.Certificate()) {
			t.Errorf("%s: the certificate is not whole", name)
		}
		if public, err := authkeys.ParsePublicKey([]byte(i.PublicLine())); err != nil || public.Fingerprint != i.Fingerprint() {
			t.Errorf("%s: the line to register is read as %v, %v", name, public, err)
		}
	}
}

// Whatever a seed begins with, it is one: "0" is how DER begins as well.
func TestEverySeed(t *testing.T) {
	for first := range 256 {
		seed := bytes.Repeat([]byte{byte(first)}, ed25519.SeedSize)
		key := ed25519.NewKeyFromSeed(seed)
		text := base64.RawURLEncoding.EncodeToString(seed)
		for _, form := range []string{text, text + "\n", base64.StdEncoding.EncodeToString(seed)} {
			if i, err := client.ParseIdentity([]byte(form), ""); err != nil || i.Fingerprint() != fingerprintOf(key) {
				t.Errorf("%q: %v, %v", form, i, err)
			}
		}
	}
}

// A certificate that comes with the key is kept, whatever else is in the file.
func TestIdentityKeepsItsCertificate(t *testing.T) {
	own, other := must(client.NewIdentity(client.ECDSA, "me@example.org")), must(client.NewIdentity(client.ECDSA, "CA"))
	key := must(own.KeyPEM())
	chain := bytes.Join([][]byte{other.CertificatePEM(), key, own.CertificatePEM()}, nil)
	p12 := must(pkcs12.Modern2023.Encode(own.TLS().PrivateKey, own.Certificate(), []*x509.Certificate{other.Certificate()}, "secret"))
	for name, data := range map[string][]byte{"PEM": chain, "PKCS #12": p12} {
		i, err := client.ParseIdentity(data, "secret")
		if err != nil || !i.Certificate().Equal(own.Certificate()) {
			t.Errorf("%s: %v, %v", name, i, err)
		}
	}
	_, err := client.ParseIdentity(append(key, other.CertificatePEM()...), "")
	if !errors.Is(err, client.ErrMismatch) {
		t.Errorf("a certificate of another key: %v", err)
	}
}

func TestParseIdentityRefuses(t *testing.T) {
	own := must(client.NewIdentity(client.Ed25519, ""))
	p12 := must(own.PKCS12("secret", false))
	ssh := must(own.OpenSSH("secret"))
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	x25519 := must(ecdh.X25519().GenerateKey(rand.Reader))
	tests := map[string]struct {
		data []byte
		want error
	}{
		"nothing":               {nil, client.ErrNoPrivateKey},
		"text":                  {[]byte("correct horse battery staple"), client.ErrNoPrivateKey},
		"a short seed":          {[]byte("AAAA"), client.ErrNoPrivateKey},
		"a certificate alone":   {own.CertificatePEM(), client.ErrNoPrivateKey},
		"half a key":            {encodePEM("PRIVATE KEY", []byte{0x30, 0x80}), client.ErrNoPrivateKey},
		"DER that is none":      {[]byte{0x30, 0x03, 0x02, 0x01, 0x03}, client.ErrNoPrivateKey},
		"a wrong passphrase":    {p12, client.ErrPassphrase},
		"one for OpenSSH":       {ssh, client.ErrPassphrase},
		"encrypted PKCS #8":     {encodePEM("ENCRYPTED PRIVATE KEY", []byte{0x30, 0}), client.ErrEncryptedPKCS8},
		"a broken certificate":  {append(must(own.KeyPEM()), encodePEM("CERTIFICATE", []byte{1})...), client.ErrMismatch},
		"a curve that is short": {encodePEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(p224))), nil},
		"a key that signs not":  {encodePEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(x25519))), nil},
	}
	for name, tt := range tests {
		i, err := client.ParseIdentity(tt.data, "wrong")
		unacceptable := new(authkeys.UnacceptableError)
		if i != nil || tt.want != nil && !errors.Is(err, tt.want) || tt.want == nil && !errors.As(err, &unacceptable) {
			t.Errorf("%s: %v, %v", name, i, err)
		}
	}
}

// secrets are the texts that would give a key away.
func secrets(i *client.Identity) []string {
	text, seed := string(must(i.KeyPEM())), must(i.Seed())
	raw := must(base64.RawURLEncoding.DecodeString(seed))
	return []string{
		seed, strings.Split(text, "\n")[1], fmt.Sprintf("%x", raw), fmt.Sprintf("%X", raw),
		strings.Trim(fmt.Sprint(raw), "[]"), fmt.Sprintf("%#v", raw)[7:60],
	}
}

func TestIdentityNeverPrintsItsKey(t *testing.T) {
	i := must(client.NewIdentity(client.Ed25519, "me"))
	holder := struct {
		P *client.Identity
		V client.Identity
	}{i, *i}
	var printed []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%w"} {
		printed = append(printed, fmt.Sprintf(verb, i), fmt.Sprintf(verb, *i), fmt.Sprintf(verb, holder), fmt.Sprintf(verb, []any{i, *i}))
	}
	for _, v := range []any{i, *i, holder, map[string]any{"i": *i}} {
		printed = append(printed, string(must(json.Marshal(v))))
	}
	for _, secret := range secrets(i) {
		for _, text := range printed {
			if strings.Contains(text, secret) {
				t.Errorf("%q gives the key away", text)
			}
		}
	}
	if got := fmt.Sprintf("%+v", *i); got != i.String() || !strings.Contains(got, i.Fingerprint().String()) {
		t.Errorf("printed as %s", got)
	}
}

func TestEncode(t *testing.T) {
	for _, typ := range []client.KeyType{client.ECDSA, client.Ed25519} {
		i := must(client.NewIdentity(typ, "alice's\r\nphone"))
		forms := map[string][]byte{
			"PEM": must(i.KeyPEM()), "OpenSSH": must(i.OpenSSH("")), "OpenSSH encrypted": must(i.OpenSSH("p")),
			"PKCS #12": must(i.PKCS12("p", false)), "old PKCS #12": must(i.PKCS12("p", true)),
		}
		if typ == client.Ed25519 {
			forms["seed"] = []byte(must(i.Seed()))
		} else if _, err := i.Seed(); !errors.Is(err, client.ErrNoSeed) {
			t.Errorf("%s has a seed: %v", typ, err)
		}
		for name, data := range forms {
			back, err := client.ParseIdentity(data, "p")
			if err != nil || back.Fingerprint() != i.Fingerprint() {
				t.Errorf("%s as %s: %v, %v", typ, name, back, err)
			}
		}
		if line := i.PublicLine(); strings.ContainsAny(line, "\r\n") || !strings.HasSuffix(line, " alice's phone") {
			t.Errorf("the line to register is %q", line)
		}
		if _, err := tls.X509KeyPair(i.CertificatePEM(), must(i.KeyPEM())); err != nil {
			t.Error(err)
		}
	}
	if _, err := client.NewIdentity("rsa", ""); !errors.Is(err, client.ErrKeyType) {
		t.Errorf("rsa: %v", err)
	}
}

func TestLoadIdentity(t *testing.T) {
	i := must(client.NewIdentity(client.ECDSA, ""))
	file := filepath.Join(t.TempDir(), "me.pem")
	if err := os.WriteFile(file, must(i.KeyPEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	if back, err := client.LoadIdentity(file, ""); err != nil || back.Fingerprint() != i.Fingerprint() {
		t.Errorf("%v, %v", back, err)
	}
	if _, err := client.LoadIdentity(file+"x", ""); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzParseIdentity(f *testing.F) {
	for _, form := range keyForms(f) {
		f.Add(form.data)
	}
	i := must(client.NewIdentity(client.ECDSA, "me"))
	f.Add(append(must(i.KeyPEM()), i.CertificatePEM()...))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := client.ParseIdentity(data, "secret")
		if (i == nil) == (err == nil) {
			t.Fatalf("%v, %v", i, err)
		}
		if err != nil {
			return
		}
		if back, err := client.ParseIdentity(must(i.KeyPEM()), ""); err != nil || back.Fingerprint() != i.Fingerprint() {
			t.Fatalf("%v, %v", back, err)
		}
	})
}
