package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// certified returns a certificate for key, self-signed unless parent signs it.
func certified(t *testing.T, key crypto.Signer, edit func(*x509.Certificate)) []byte {
	t.Helper()
	return certifiedBy(t, key, key, edit)
}

func certifiedBy(t *testing.T, signer, key crypto.Signer, edit func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// showing is a config that shows a chain, and proves to have key.
func (g *gateway) showing(protocol string, key crypto.Signer, chain ...[]byte) *tls.Config {
	config := g.tlsConfig("", protocol)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: chain, PrivateKey: key}, nil
	}
	return config
}

// controls returns the first line of a log with a control character in it.
func controls(log string) string {
	for line := range strings.Lines(log) {
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }) {
			return line
		}
	}
	return ""
}

func TestHostileCertificates(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, "log: {level: debug, format: "+format+"}\n")
			tryCertificates(t, g)
			log := g.logged()
			if format == "console" {
				log = colors.Replace(log)
			}
			if line := controls(log); line != "" {
				t.Errorf("a control character in the log: %q", line)
			}
			for _, inject := range []string{"\nINJECTED", "INJECTED=1 "} {
				if strings.Contains(log, inject) {
					t.Errorf("%q in the log", inject)
				}
			}
		})
	}
}

// colors takes the escape sequences of zerolog's console format out.
var colors = strings.NewReplacer("\x1b[0m", "", "\x1b[1m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[34m", "",
	"\x1b[35m", "", "\x1b[36m", "", "\x1b[90m", "")

func tryCertificates(t *testing.T, g *gateway) {
	g.account(alice)
	g.account(bob)
	pair, err := tls.LoadX509KeyPair(g.key(alice, "laptop"), g.dir+"/laptop.pem")
	if err != nil {
		t.Fatal(err)
	}
	own, stranger := pair.PrivateKey.(crypto.Signer), newKey(t)
	const evil = "evil\r\nINJECTED\x00\x1b[2J\x1b]0;x\x07 INJECTED=1 \u009b"

	odd := map[string]func(*x509.Certificate){
		"as it is":      nil,
		"expired":       func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) },
		"not yet valid": func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) },
		"wrong usages": func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
			c.KeyUsage = x509.KeyUsageCRLSign
		},
		"CA:true": func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
		"critical extension": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte("\x05\x00")}}
		},
		"a name of 50 kB":     func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("n", 50000) },
		"2,000 names":         func(c *x509.Certificate) { c.DNSNames = slices.Repeat([]string{"host.example.org"}, 2000) },
		"a name with CRLF":    func(c *x509.Certificate) { c.Subject.CommonName = evil; c.Subject.Organization = []string{evil} },
		"another's name":      func(c *x509.Certificate) { c.Subject.CommonName = bob; c.EmailAddresses = []string{bob} },
		"a serial of 20 kbit": func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 20000) },
	}
	chains := map[string][][]byte{}
	for name, edit := range odd {
		chains[name] = [][]byte{certified(t, own, edit)}
	}
	chains["foreign CA"] = [][]byte{certifiedBy(t, stranger, own, nil)}
	broken := certified(t, own, nil)
	broken[len(broken)-1] ^= 1
	chains["broken self-signature"] = [][]byte{broken}
	chains["with another behind it"] = [][]byte{certified(t, own, nil), certified(t, stranger, nil)}

	for name, chain := range chains {
		t.Run("logs in the same: "+name, func(t *testing.T) {
			g := g.in(t)
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				config := g.showing("imap", own, chain...)
				config.MaxVersion = version
				g.secure(g.shared, config).until("* PREAUTH")
			}
			p := g.secure(g.shared, g.showing("smtp", own, chain...))
			p.until("220 ")
			p.ask("EHLO client.example", "250")
			p.ask("MAIL FROM:<"+bob+">", "550")
			p.ask("MAIL FROM:<"+alice+">", "250")
		})
	}

	t.Run("a registered certificate second in the chain is nobody", func(t *testing.T) {
		g := g.in(t)
		named := certified(t, stranger, func(c *x509.Certificate) { c.Subject.CommonName = alice })
		p := g.secure(g.shared, g.showing("imap", stranger, named, certified(t, own, nil)))
		if greeting := p.line(); !strings.HasPrefix(greeting, "* OK") || strings.Contains(greeting, "EXTERNAL") {
			t.Errorf("greeted with %q", greeting)
		}
		p.do("AUTHENTICATE EXTERNAL "+base64Of(alice), "NO")
	})

	for name, chain := range map[string][][]byte{
		"no proof of the key":  {certified(t, own, nil)},
		"10,000 certificates":  slices.Repeat([][]byte{certified(t, stranger, nil)}, 10000),
		"15 MB of junk":        {bytes.Repeat([]byte("junk"), 15<<18)},
		"junk":                 {[]byte("junk")},
		"an empty certificate": {{}},
		"a key without proof":  {certified(t, stranger, nil)[:100]},
	} {
		t.Run("over in 5 s: "+name, func(t *testing.T) {
			g := g.in(t)
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				config := g.showing("imap", stranger, chain...)
				config.MaxVersion = version
				g.refused(config, 5*time.Second+slack)
			}
		})
	}
	t.Run("over in 5 s: RSA of 65,536 bits", func(t *testing.T) {
		n := new(big.Int).Lsh(big.NewInt(1), 65535)
		huge := &rsa.PublicKey{N: n.Add(n, big.NewInt(12345)), E: 65537}
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, huge, stranger)
		if err != nil {
			t.Fatal(err)
		}
		g := g.in(t)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := g.showing("imap", pretender{huge}, der)
			config.MaxVersion = version
			g.refused(config, 5*time.Second+slack)
		}
	})
	g.alive(g.dir + "/laptop.pem")
	if rss := g.proc("VmHWM"); rss > 400<<10 {
		t.Errorf("the gateway grew to %d kB", rss)
	}
}

// pretender says it has the private key of any public one.
type pretender struct{ key crypto.PublicKey }

func (p pretender) Public() crypto.PublicKey { return p.key }
func (p pretender) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 8192), nil
}

// refused wants a handshake to fail, which clients of TLS 1.3 see at the first
// read only.
func (g *gateway) refused(config *tls.Config, within time.Duration) {
	g.t.Helper()
	start := time.Now()
	c := tls.Client(g.connect(g.shared), config)
	err := c.Handshake()
	var out []byte
	if err == nil {
		out = make([]byte, 100)
		var n int
		n, err = c.Read(out)
		out = out[:n]
	}
	if err == nil || len(out) > 0 {
		g.t.Errorf("greeted with %q", out)
	}
	if took := time.Since(start); took > within {
		g.t.Errorf("it took %v", took)
	}
}

func TestHostileKeys(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)

	t.Run("CertificateRequest names no CAs, and schemes for every accepted type", func(t *testing.T) {
		g := g.in(t)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, protocol := range []string{"imap", "smtp", "submission", "h2", "http/1.1", ""} {
				config := g.tlsConfig("", protocol)
				if protocol == "" {
					config.NextProtos = nil
				}
				var asked *tls.CertificateRequestInfo
				config.MaxVersion = version
				config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
					asked = info
					return new(tls.Certificate), nil
				}
				g.secure(g.shared, config)
				mail := protocol != "" && !strings.HasPrefix(protocol, "h")
				switch {
				case (asked != nil) != mail:
					t.Errorf("TLS %x, %q: asked: %v", version, protocol, asked != nil)
				case asked == nil:
				case len(asked.AcceptableCAs) > 0:
					t.Errorf("TLS %x, %q: CAs %q", version, protocol, asked.AcceptableCAs)
				default:
					for _, s := range []tls.SignatureScheme{tls.Ed25519, tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384,
						tls.ECDSAWithP521AndSHA512, tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512} {
						if !slices.Contains(asked.SignatureSchemes, s) {
							t.Errorf("TLS %x, %q: no %v", version, protocol, s)
						}
					}
				}
			}
		}
	})

	t.Run("every accepted type logs in, no other does", func(t *testing.T) {
		g := g.in(t)
		_, ed, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys := map[string]crypto.Signer{"Ed25519": ed}
		for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521(), "P-224": elliptic.P224()} {
			if keys[name], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
				t.Fatal(err)
			}
		}
		for _, bits := range []int{1024, 2048, 3072} {
			if keys[fmt.Sprint("RSA-", bits)], err = rsa.GenerateKey(rand.Reader, bits); err != nil {
				t.Fatal(err)
			}
		}
		for name, key := range keys {
			good := name != "P-224" && name != "RSA-1024"
			der := certified(t, key, nil)
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
			_, errOut, err := g.try(string(text), binary, "key", "add", alice, "--config", g.config)
			if (err == nil) != good {
				t.Errorf("%s: registered with %v: %s", name, err, errOut)
			}
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				if name == "P-224" && version == tls.VersionTLS13 {
					continue // it has no scheme to prove itself with
				}
				config := g.showing("imap", key, der)
				config.MaxVersion = version
				p := g.secure(g.shared, config)
				greeting := p.line()
				p.Close() // for the log
				if strings.HasPrefix(greeting, "* PREAUTH") != good || !good && !strings.HasPrefix(greeting, "* OK") {
					t.Errorf("%s, TLS %x: greeted with %q", name, version, greeting)
				}
			}
		}
		for _, name := range []string{"RSA 1024", "ECDSA P-224"} {
			g.awaitLog("key type " + name + " is not accepted")
		}
	})

	t.Run("a pending EXTERNAL fails once its key or account is gone", func(t *testing.T) {
		g := g.in(t)
		g.account(bob)
		for _, revoke := range [][]string{{"key", "remove"}, {"key", "set", "--scope", "https"}, {"account", "disable", bob}} {
			name := "pending-" + revoke[1]
			pemFile := g.key(bob, name, "--no-preauth", "--name", name)
			p := g.secure(g.shared, g.tlsConfig(pemFile, "imap"))
			p.until("* OK")
			p.send("t AUTHENTICATE EXTERNAL\r\n")
			p.until("+")
			q := g.smtpOf(pemFile)
			q.ask("AUTH EXTERNAL", "334")
			if revoke[0] == "key" {
				revoke = append(revoke, g.fingerprint(bob, name))
			}
			g.posthorn(revoke...)
			p.send("=\r\n")
			if out, _ := p.r.ReadString('\n'); strings.HasPrefix(out, "t OK") {
				t.Errorf("%q: %q", revoke, out)
			}
			q.send("=\r\nMAIL FROM:<" + bob + ">\r\nQUIT\r\n")
			if out, _ := q.rest(); strings.Contains(out, "235") || strings.Contains(out, "250") {
				t.Errorf("%q: %q", revoke, out)
			}
		}
	})

	t.Run("registered or revoked just before kill -9 is so after it", func(t *testing.T) {
		for i := range 3 {
			name := fmt.Sprint("short", i)
			pemFile := g.key(alice, name, "--name", name)
			g.kill()
			g.start()
			g.in(t).imapOf(pemFile)
			fingerprint := g.fingerprint(alice, name)
			g.posthorn("key", "remove", fingerprint)
			g.kill()
			g.start()
			p := g.in(t).secure(g.shared, g.tlsConfig(pemFile, "imap"))
			if greeting := p.line(); !strings.HasPrefix(greeting, "* OK") {
				t.Errorf("greeted with %q", greeting)
			}
		}
	})
}
