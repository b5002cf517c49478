package authkeys

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ssh"
)

var (
	// ErrNoPublicKey says that a text holds no public key.
	ErrNoPublicKey = errors.New("no public key found: want a PEM certificate, a PEM public key or an OpenSSH public key")
	// ErrPrivateKey says that a text holds a private key and nothing else.
	ErrPrivateKey = errors.New("this is a private key, which nobody else should see: give its certificate or public key")
	// ErrPKCS12 says that a file is a PKCS#12 bundle, which holds a private key.
	ErrPKCS12 = errors.New("this is a PKCS#12 bundle: take the certificate out of it with openssl pkcs12 -clcerts -nokeys")
	// ErrTooLong says that a text is longer than any certificate need be.
	ErrTooLong = errors.New("too long for a public key")
)

// maxInput bounds what ParsePublicKey looks at. A certificate with thousands of
// names fits.
const maxInput = 1 << 20

// ParsePublicKey reads what a person has at hand: a PEM certificate, a PEM
// public key (PKIX), or one line of OpenSSH public key; a certificate or public
// key in DER too. Leading and trailing text around one PEM block is ignored, as
// openssl's is. Of several the first counts. A private key beside a certificate
// in the same file is ignored; a private key alone is refused with ErrPrivateKey.
// No error repeats the input. Errors are ErrNoPublicKey and its siblings, or an
// *UnacceptableError.
func ParsePublicKey(data []byte) (PublicKey, error) {
	if len(data) > maxInput {
		return PublicKey{}, ErrTooLong
	}
	private := false
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch t := block.Type; {
		case t == "CERTIFICATE", t == "X509 CERTIFICATE", t == "TRUSTED CERTIFICATE":
			return fromCertificateDER(block.Bytes)
		case t == "PUBLIC KEY":
			return fromSPKI(block.Bytes)
		case t == "RSA PUBLIC KEY":
			return fromPKCS1(block.Bytes)
		case strings.HasSuffix(t, "PRIVATE KEY"):
			private = true
		}
	}
	if private {
		return PublicKey{}, ErrPrivateKey
	}
	if len(data) > 0 && data[0] == 0x30 { // SEQUENCE, and a digit that begins no OpenSSH line
		return fromDER(data)
	}
	return fromOpenSSH(data)
}

// fromDER tells the structures apart that files with a DER SEQUENCE hold.
func fromDER(der []byte) (PublicKey, error) {
	in := cryptobyte.String(der)
	var version int64
	switch {
	case !in.ReadASN1(&in, cryptobyte_asn1.SEQUENCE):
		return PublicKey{}, ErrNoPublicKey
	case !in.PeekASN1Tag(cryptobyte_asn1.INTEGER):
		if k, err := fromCertificateDER(der); !errors.Is(err, ErrNoPublicKey) {
			return k, err
		}
		return fromSPKI(der)
	case in.ReadASN1Integer(&version) && version == 3: // RFC 7292 section 4
		return PublicKey{}, ErrPKCS12
	default: // PKCS #1 and #8, SEC 1: all begin with a version
		return PublicKey{}, ErrPrivateKey
	}
}

// fromCertificateDER finds the key in a certificate (RFC 5280 section 4.1)
// without judging the rest: crypto/x509 refuses whole certificates for reasons
// that do not concern a key.
func fromCertificateDER(der []byte) (PublicKey, error) {
	in := cryptobyte.String(der)
	var tbs, subject, spki cryptobyte.String
	if !in.ReadASN1(&in, cryptobyte_asn1.SEQUENCE) ||
		!in.ReadASN1(&tbs, cryptobyte_asn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(cryptobyte_asn1.Tag(0).Constructed().ContextSpecific()) || // version
		!tbs.SkipASN1(cryptobyte_asn1.INTEGER) || // serial number
		!tbs.SkipASN1(cryptobyte_asn1.SEQUENCE) || // signature
		!tbs.SkipASN1(cryptobyte_asn1.SEQUENCE) || // issuer
		!tbs.SkipASN1(cryptobyte_asn1.SEQUENCE) || // validity
		!tbs.ReadASN1Element(&subject, cryptobyte_asn1.SEQUENCE) ||
		!tbs.ReadASN1Element(&spki, cryptobyte_asn1.SEQUENCE) {
		return PublicKey{}, fmt.Errorf("%w: the certificate is malformed", ErrNoPublicKey)
	}
	k, err := fromSPKI(spki)
	if err == nil {
		k.Comment = commonName(subject)
	}
	return k, err
}

func commonName(subject []byte) string {
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(subject, &rdns); err != nil {
		return ""
	}
	var name pkix.Name
	name.FillFromRDNSequence(&rdns)
	return printable(name.CommonName)
}

func fromPKCS1(der []byte) (PublicKey, error) {
	key, err := x509.ParsePKCS1PublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: the key is malformed", ErrNoPublicKey)
	}
	return fromKey(key)
}

// fromOpenSSH reads a line as in authorized_keys or a .pub file (sshd(8),
// RFC 4253 section 6.6).
func fromOpenSSH(text []byte) (PublicKey, error) {
	line, comment, _, _, err := ssh.ParseAuthorizedKey(bytes.TrimPrefix(text, []byte("\ufeff")))
	if err != nil {
		return PublicKey{}, ErrNoPublicKey
	}
	switch t := line.Type(); t {
	case ssh.KeyAlgoRSA, ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
	case "ssh-dss":
		return PublicKey{}, &UnacceptableError{"DSA"}
	default: // a security key signs nothing but SSH, a certificate is no key
		return PublicKey{}, &UnacceptableError{t}
	}
	key, ok := line.(ssh.CryptoPublicKey)
	if !ok {
		return PublicKey{}, &UnacceptableError{line.Type()}
	}
	k, err := fromKey(key.CryptoPublicKey())
	if err == nil {
		k.Comment = printable(comment)
	}
	return k, err
}

// fromKey accepts a key that came without its SubjectPublicKeyInfo.
func fromKey(key any) (PublicKey, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: the key is malformed", ErrNoPublicKey)
	}
	return accept(key, spki)
}

// printable makes a text that a stranger wrote fit for terminals and logs.
func printable(s string) string {
	const longest = 64
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == longest {
			break
		}
		if r != unicode.ReplacementChar && unicode.IsPrint(r) {
			b.WriteRune(r)
			n++
		}
	}
	return strings.TrimSpace(b.String())
}
