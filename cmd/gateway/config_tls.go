package main

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"posthorn/certs"
	"posthorn/certs/acme"
	"posthorn/certs/ech"
)

// TLS is about the server's side of TLS.
type TLS struct {
	// MinVersion is "1.2" or "1.3".
	MinVersion string `yaml:"min_version"`
	// UnknownName says what clients get that ask for a server name that is not
	// served: "alert" (unrecognized_name), or "default", the certificate of
	// Hostname.
	UnknownName string `yaml:"unknown_name"`
	// Names are served besides those that other keys name.
	Names []string `yaml:"names"`
	// Files are certificates on disk, such as a CA's client renews them. What
	// they contain is read again when they change.
	Files []CertFiles `yaml:"files"`
	// ACME orders certificates for the names that no file covers.
	ACME ACME `yaml:"acme"`
	// SelfSigned are the names that no CA is asked for.
	SelfSigned []string `yaml:"self_signed"`
	// KeyFile encrypts the private keys in the store; empty: they are not.
	KeyFile string `yaml:"key_file"`
	// ECH is Encrypted Client Hello (RFC 9849).
	ECH ECH `yaml:"ech"`
	// Tickets are for how long session tickets are accepted at most.
	Tickets Tickets `yaml:"tickets"`
}

// CertFiles names a PEM certificate chain and its private key.
type CertFiles struct {
	Cert string `yaml:"cert"`
	// Key is empty when the key stands in the same file as the chain.
	Key string `yaml:"key"`
}

// ACME says how certificates come from a CA (RFC 8555).
type ACME struct {
	// AgreeTerms says that you have read and agree to the CA's terms of service,
	// and turns ACME on.
	AgreeTerms bool `yaml:"agree_terms"`
	// Email is where the CA may write to.
	Email string `yaml:"email"`
	// Directory is "letsencrypt", "letsencrypt-staging", or the URL of another
	// CA's directory.
	Directory string `yaml:"directory"`
	// HTTP01 lets the CA validate on Listen.HTTP when it fails to on the shared
	// port.
	HTTP01 bool `yaml:"http01"`
	// RSA are the names that get an RSA certificate too.
	RSA []string `yaml:"rsa"`
	// CA is a PEM file that the certificate of Directory is checked with; empty:
	// the system's.
	CA string `yaml:"ca"`
	// EABKeyID and EABKeyFile bind the account to one that the CA knows.
	EABKeyID   string `yaml:"eab_key_id"`
	EABKeyFile string `yaml:"eab_key_file"`
	// CAA is what the CA calls itself in CAA records; empty: Let's Encrypt's name,
	// or none.
	CAA string `yaml:"caa"`
}

// ECH is what observers see of clients that hide what they ask for.
type ECH struct {
	// PublicName is the server name that they see; empty: ECH is off.
	PublicName string `yaml:"public_name"`
}

// Tickets are for how long session tickets are accepted at most.
type Tickets struct {
	Mail Duration `yaml:"mail"`
	Web  Duration `yaml:"web"`
}

const letsEncrypt, letsEncryptStaging = "letsencrypt", "letsencrypt-staging"

func defaultTLS() TLS {
	return TLS{
		MinVersion: "1.2", UnknownName: "alert", ACME: ACME{Directory: letsEncrypt},
		Tickets: Tickets{Mail: Duration(24 * time.Hour), Web: Duration(7 * 24 * time.Hour)},
	}
}

// directory is the URL of the CA's directory.
func (a *ACME) directory() string {
	switch a.Directory {
	case letsEncrypt:
		return acme.LetsEncrypt
	case letsEncryptStaging:
		return acme.LetsEncryptStaging
	}
	return a.Directory
}

// issuers are the CAs that may issue, as CAA records call them.
func (a *ACME) issuers() []string {
	switch {
	case !a.AgreeTerms:
		return nil
	case a.CAA != "":
		return []string{a.CAA}
	case a.Directory == letsEncrypt, a.Directory == letsEncryptStaging:
		return []string{"letsencrypt.org"}
	}
	return nil
}

func (c *Config) checkTLS(p *problems) {
	t := &c.TLS
	p.oneOf("tls.min_version", t.MinVersion, "1.2", "1.3")
	p.oneOf("tls.unknown_name", t.UnknownName, "alert", "default")
	p.names("tls.names", t.Names)
	for i, f := range t.Files {
		if f.Cert == "" {
			p.add(fmt.Sprintf("tls.files[%d]", i), "must name a certificate, as cert")
		}
	}
	c.checkServed(p, "tls.self_signed", t.SelfSigned)
	c.checkACME(p)
	if name := t.ECH.PublicName; name != "" {
		p.name("tls.ech.public_name", name)
		if _, err := ech.Generate(0, name, 0); err != nil {
			p.add("tls.ech.public_name", "is no name that clients take: %q", name)
		}
	}
	p.duration("tls.tickets.mail", t.Tickets.Mail, time.Hour, 7*24*time.Hour)
	p.duration("tls.tickets.web", t.Tickets.Web, time.Hour, 7*24*time.Hour)
}

// checkServed checks a list of names, each of which must be one that is served.
func (c *Config) checkServed(p *problems, key string, names []string) {
	p.names(key, names)
	served := c.serverNames()
	for i, n := range names {
		if !slices.Contains(served, n) {
			p.add(fmt.Sprintf("%s[%d]", key, i), "is not served: %s; tls.names can name it", n)
		}
	}
}

func (c *Config) checkACME(p *problems) {
	a := &c.TLS.ACME
	if !a.AgreeTerms {
		if rest := *a; rest.Email != "" || rest.Directory != letsEncrypt || rest.HTTP01 || len(rest.RSA) > 0 || rest.CA != "" ||
			rest.EABKeyID != "" || rest.EABKeyFile != "" || rest.CAA != "" {
			p.add("tls.acme", "wants agree_terms: true, which says that you agree to the CA's terms of service")
		}
	}
	if a.Email != "" && (!strings.Contains(a.Email, "@") || strings.ContainsAny(a.Email, " <>,:;\r\n")) {
		p.add("tls.acme.email", "must be an e-mail address, not %q", a.Email)
	}
	u, err := url.Parse(a.Directory)
	if named := a.Directory == letsEncrypt || a.Directory == letsEncryptStaging; !named &&
		(err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil) {
		p.add("tls.acme.directory", "must be %s, %s or https://…, not %q", letsEncrypt, letsEncryptStaging, a.Directory)
	}
	c.checkServed(p, "tls.acme.rsa", a.RSA)
	for i, n := range a.RSA {
		if slices.Contains(c.TLS.SelfSigned, n) || !acme.Issuable(n) {
			p.add(fmt.Sprintf("tls.acme.rsa[%d]", i), "is not a name that the CA is asked for: %s", n)
		}
	}
	if (a.EABKeyID == "") != (a.EABKeyFile == "") {
		p.add("tls.acme", "must have both eab_key_id and eab_key_file, or neither")
	}
	if a.CAA != "" {
		p.name("tls.acme.caa", a.CAA)
	}
}

// eabKey reads the key of the account that the operator has with the CA.
func (a *ACME) eabKey() ([]byte, error) {
	if a.EABKeyFile == "" {
		return nil, nil
	}
	text, err := readSecret(a.EABKeyFile)
	if err != nil {
		return nil, err
	}
	// CAs show it in one of both alphabets, with padding or without.
	text = strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(strings.TrimSpace(text))
	key, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("%s is not in base64", a.EABKeyFile)
	}
	return key, nil
}

// checkTLSFiles reports secrets that cannot be read, or that everybody can.
func (c *Config) checkTLSFiles(p *problems) {
	if _, err := c.TLS.ACME.eabKey(); err != nil {
		p.add("tls.acme.eab_key_file", "cannot be used: %v", err)
	}
	if f := c.TLS.KeyFile; f != "" {
		secret, err := readSecret(f)
		if err == nil && len(secret) < 32 {
			err = certs.ErrKeyFile
		}
		if err != nil {
			p.add("tls.key_file", "cannot be used: %v", err)
		}
	}
	if f := c.TLS.ACME.CA; f != "" {
		if _, err := os.Stat(f); err != nil {
			p.add("tls.acme.ca", "cannot be used: %v", err)
		}
	}
}
