package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"software.sslmate.com/src/go-pkcs12"

	"posthorn/accounts"
	"posthorn/authkeys"
)

// keyGen is one run of "key gen".
type keyGen struct {
	owner  string // --for
	out    string
	typ    string
	force  bool
	legacy bool
}

func (c *cli) keyGenCmd() *cobra.Command {
	var g keyGen
	cmd := &cobra.Command{
		Use:   "gen --out NAME",
		Short: "Make a key pair for a device, here, without asking the gateway",
		Long: `Make a private key and a self-signed certificate for it, and write
  NAME.key  the private key,
  NAME.crt  the certificate,
  NAME.pem  both in one file, and
  NAME.p12  both for programs that import them, under the passphrase that is printed,
all readable by you only. The gateway looks at nothing in the certificate but its
public key, so it never expires there.`,
		Example: `  posthorn key gen --for alice@example.org --out alice
  posthorn key gen --for alice@example.org --out alice-phone --type ed25519`,
		Args: c.args(0, 0),
		RunE: func(*cobra.Command, []string) error { return c.keyGen(g) },
	}
	f := cmd.Flags()
	f.StringVar(&g.owner, "for", "", "whose key it is: the `ADDRESS` that goes into the certificate, for people to read")
	f.StringVar(&g.out, "out", "", "the files' `NAME`, without ending (default: what stands before the @ of --for)")
	f.StringVar(&g.typ, "type", "ecdsa", "`TYPE` of key: ecdsa (P-256, which every program can use) or ed25519")
	f.BoolVar(&g.force, "force", false, "overwrite files that exist")
	f.BoolVar(&g.legacy, "p12-legacy", false, "write the .p12 with old ciphers, for macOS before 15 and old Android and Windows")
	return c.jsonFlag(cmd)
}

// generated is the result of "key gen".
type generated struct {
	Fingerprint authkeys.Fingerprint `json:"fingerprint"`
	Type        string               `json:"type"`
	Key         string               `json:"key"`
	Certificate string               `json:"certificate"`
	Both        string               `json:"both"`
	P12         string               `json:"p12"`
	Passphrase  string               `json:"p12_passphrase"`
}

func (c *cli) keyGen(g keyGen) error {
	if err := g.complete(); err != nil {
		return err
	}
	key, cert, err := g.make(time.Now())
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	pub, err := authkeys.FromCertificate(cert)
	if err != nil {
		return err
	}
	res := generated{
		Fingerprint: pub.Fingerprint, Type: pub.Type, Passphrase: accounts.GeneratePassword(),
		Key: g.out + ".key", Certificate: g.out + ".crt", Both: g.out + ".pem", P12: g.out + ".p12",
	}
	if err := g.write(res, key, cert); err != nil {
		return err
	}
	return c.print(res, func(w io.Writer) { c.printGenerated(w, g, res) })
}

// complete checks the flags and fills in what follows from others.
func (g *keyGen) complete() error {
	if g.out == "" {
		g.out, _, _ = strings.Cut(g.owner, "@")
	}
	var err error
	switch base := filepath.Base(g.out); {
	case g.out == "" || strings.HasSuffix(g.out, "/") || base == "." || base == "..":
		err = withHint(errors.New("the files need a name"), "say --out NAME")
	case g.typ != "ecdsa" && g.typ != "ed25519":
		err = withHint(fmt.Errorf("--type %q is not a type of key", g.typ), "say ecdsa or ed25519")
	case g.owner != "":
		if _, e := accounts.ParseAddress(g.owner); e != nil {
			err = withHint(fmt.Errorf("--for %q: %w", g.owner, e), "say an e-mail address, such as alice@localhost")
		}
	}
	if err != nil {
		return &usageError{err}
	}
	return nil
}

// make makes the key and its certificate. The dates say that it never expires
// (RFC 5280 section 4.1.2.5): the gateway does not look, but some programs do.
func (g *keyGen) make(now time.Time) (crypto.Signer, *x509.Certificate, error) {
	var key crypto.Signer
	var err error
	if g.typ == "ed25519" {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	name := g.owner
	if name == "" {
		name = filepath.Base(g.out)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return key, cert, err
}

// write writes the four files, or, when one of them exists, none.
func (g *keyGen) write(res generated, key crypto.Signer, cert *x509.Certificate) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	encoder := pkcs12.Modern2023
	if g.legacy {
		encoder = pkcs12.LegacyDES
	}
	p12, err := encoder.Encode(key, cert, nil, res.Passphrase)
	if err != nil {
		return fmt.Errorf("encode the .p12: %w", err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	files := []struct {
		name string
		data []byte
	}{
		{res.Key, keyPEM}, {res.Certificate, certPEM},
		{res.Both, append(keyPEM[:len(keyPEM):len(keyPEM)], certPEM...)}, {res.P12, p12},
	}
	for _, f := range files {
		if _, err := os.Lstat(f.name); err == nil && !g.force {
			return withHint(fmt.Errorf("%s exists already", f.name), "choose another --out, or say --force to overwrite")
		}
	}
	for _, f := range files {
		if err := writeSecret(f.name, f.data, g.force); err != nil {
			return err
		}
	}
	return nil
}

// writeSecret writes a file that only its owner can read; never through what
// stands at its name, and at no time in part.
func writeSecret(name string, data []byte, replace bool) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if replace {
		return os.Rename(tmp.Name(), name)
	}
	return os.Link(tmp.Name(), name) // which, unlike Rename, fails when name exists
}

func (c *cli) printGenerated(w io.Writer, g keyGen, res generated) {
	account := g.owner
	if account == "" {
		account = "ACCOUNT"
	}
	var f fields
	f.add("Fingerprint", res.Fingerprint.String())
	f.add("Type", res.Type)
	f.add("Private key", res.Key)
	f.add("Certificate", res.Certificate)
	f.add("Both", res.Both)
	f.add("PKCS #12", res.P12)
	f.add("Its passphrase", res.Passphrase)
	f.write(w)
	fmt.Fprintf(w, "\nRegister it:\n  %s key add %s < %s\n", c.invocation(), quote(account), quote(res.Both))
}
