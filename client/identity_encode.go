package client

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
	"software.sslmate.com/src/go-pkcs12"
)

// ErrNoSeed says that a key is not of the one type that has a seed.
var ErrNoSeed = errors.New("only Ed25519 keys have a seed")

// KeyPEM returns the private key in PKCS #8 form, as PEM. It is a secret.
func (i Identity) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.key())
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// CertificatePEM returns the certificate as PEM. It is no secret.
func (i Identity) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.leaf.Raw})
}

// PKCS12 returns key and certificate in a .p12 file under a passphrase. legacy
// takes the old ciphers that macOS before 15, and old Android and Windows, are
// bound to.
func (i Identity) PKCS12(passphrase string, legacy bool) ([]byte, error) {
	encoder := pkcs12.Modern2023
	if legacy {
		encoder = pkcs12.LegacyDES
	}
	b, err := encoder.Encode(i.key(), i.leaf, nil, passphrase)
	if err != nil {
		return nil, fmt.Errorf("encode the .p12: %w", err)
	}
	return b, nil
}

// OpenSSH returns the private key as ssh-keygen would write it, encrypted when
// there is a passphrase. It is a secret.
func (i Identity) OpenSSH(passphrase string) ([]byte, error) {
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(i.key(), commentOf(i.leaf))
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(i.key(), commentOf(i.leaf), []byte(passphrase))
	}
	if err != nil {
		return nil, fmt.Errorf("encode for OpenSSH: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// Seed returns an Ed25519 key's seed in base64url without padding, which is all
// there is to the key. It is a secret. The error is ErrNoSeed.
func (i Identity) Seed() (string, error) {
	key, ok := i.key().(ed25519.PrivateKey)
	if !ok {
		return "", ErrNoSeed
	}
	return base64.RawURLEncoding.EncodeToString(key.Seed()), nil
}
