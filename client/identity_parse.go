package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"software.sslmate.com/src/go-pkcs12"

	"posthorn/authkeys"
)

var (
	// ErrNoPrivateKey says that what should be an identity holds no private key.
	ErrNoPrivateKey = errors.New("no private key found: want PEM, PKCS#12, an OpenSSH private key or an Ed25519 seed")
	// ErrPassphrase says that a private key is encrypted, and the passphrase is
	// wrong or was not given.
	ErrPassphrase = errors.New("the private key is encrypted, and this is not its passphrase")
	// ErrEncryptedPKCS8 says that a private key is encrypted in a way that is not
	// read here.
	ErrEncryptedPKCS8 = errors.New("encrypted PKCS#8 keys are not read: make a .p12 of it, or take the encryption off with openssl pkey")
	// ErrMismatch says that key and certificate do not belong together.
	ErrMismatch = errors.New("the certificate is not for the private key")
)

// maxIdentity bounds what LoadIdentity reads.
const maxIdentity = 1 << 20

// LoadIdentity reads an identity from a file; see ParseIdentity.
func LoadIdentity(file, passphrase string) (*Identity, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxIdentity))
	if err != nil {
		return nil, err
	}
	i, err := ParseIdentity(data, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return i, nil
}

// ParseIdentity reads a private key, with its certificate or without, from what
// a person may have:
//   - PEM: a key in PKCS #8, SEC 1 or PKCS #1 form, and perhaps certificates;
//   - PKCS #12 (.p12, .pfx);
//   - an OpenSSH private key;
//   - an Ed25519 seed: 32 octets in base64url without padding (RFC 4648 section
//     5), alone in the text;
//   - PKCS #8, SEC 1 or PKCS #1 in DER.
//
// The passphrase is for keys that are encrypted; else it is not looked at. Where
// there is no certificate, one is made. Of several, the one for the key counts.
// Errors are those above, or an *authkeys.UnacceptableError; none repeats any of
// the data.
func ParseIdentity(data []byte, passphrase string) (*Identity, error) {
	if seed := decodeSeed(data); seed != nil { // no DER is as short, and all of letters
		return newIdentity(ed25519.NewKeyFromSeed(seed), nil, "")
	}
	if block, _ := pem.Decode(data); block != nil {
		return fromPEM(data, passphrase)
	}
	return fromDER(data, passphrase)
}

// decodeSeed returns nil for what is no seed.
func decodeSeed(data []byte) []byte {
	text := strings.TrimRight(strings.TrimSpace(string(data)), "=")
	seed, err := base64.RawURLEncoding.Strict().DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(text))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil
	}
	return seed
}

func fromDER(der []byte, passphrase string) (*Identity, error) {
	key, err := parseKey(der)
	if err == nil {
		return join(key, nil)
	}
	if unacceptable := new(authkeys.UnacceptableError); errors.As(err, &unacceptable) {
		return nil, err
	}
	private, leaf, chain, err := pkcs12.DecodeChain(der, passphrase)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, ErrPassphrase
	case err != nil:
		return nil, ErrNoPrivateKey
	}
	if key, err = signer(private); err != nil {
		return nil, err
	}
	return join(key, append([]*x509.Certificate{leaf}, chain...))
}

// fromPEM takes the first key, and the certificate that is for it.
func fromPEM(data []byte, passphrase string) (*Identity, error) {
	var key crypto.Signer
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch t := block.Type; {
		case t == "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%w: the certificate is malformed", ErrMismatch)
			}
			certs = append(certs, c)
		case strings.HasSuffix(t, "PRIVATE KEY") && key == nil:
			var err error
			if key, err = keyOfBlock(block, passphrase); err != nil {
				return nil, err
			}
		}
	}
	if key == nil {
		return nil, ErrNoPrivateKey
	}
	return join(key, certs)
}

func keyOfBlock(block *pem.Block, passphrase string) (crypto.Signer, error) {
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, ErrEncryptedPKCS8
	case block.Type != "OPENSSH PRIVATE KEY" && block.Headers["DEK-Info"] == "":
		return parseKey(block.Bytes)
	}
	text := pem.EncodeToMemory(block)
	private, err := ssh.ParseRawPrivateKey(text)
	if missing := new(ssh.PassphraseMissingError); errors.As(err, &missing) {
		if private, err = ssh.ParseRawPrivateKeyWithPassphrase(text, []byte(passphrase)); err != nil {
			return nil, ErrPassphrase
		}
	}
	if err != nil {
		return nil, ErrNoPrivateKey
	}
	return signer(private)
}

// parseKey reads PKCS #8 (RFC 5958), SEC 1 (RFC 5915) and PKCS #1 (RFC 8017).
func parseKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return signer(key)
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return signer(key)
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return signer(key)
	}
	return nil, ErrNoPrivateKey
}

// signer returns a key of a type that may log in.
func signer(key any) (crypto.Signer, error) {
	switch key := key.(type) {
	case *ed25519.PrivateKey: // as package ssh has it
		return *key, nil
	case ed25519.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case *rsa.PrivateKey:
		return key, nil
	}
	return nil, &authkeys.UnacceptableError{Type: strings.TrimPrefix(fmt.Sprintf("%T", key), "*")}
}

// join finds the certificate that is for a key.
func join(key crypto.Signer, certs []*x509.Certificate) (*Identity, error) {
	if len(certs) == 0 {
		return newIdentity(key, nil, "")
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	for _, c := range certs {
		if ok && public.Equal(c.PublicKey) {
			return newIdentity(key, c, "")
		}
	}
	return nil, ErrMismatch
}
