package certs

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// ErrEncryptedKey says that a private key in a file is encrypted.
var ErrEncryptedKey = errors.New("the private key is encrypted: decrypt it with openssl pkey")

// load reads a certificate chain and its key.
func load(f Files) (*tls.Certificate, error) {
	keyFile := cmp.Or(f.Key, f.Cert)
	chain, err := os.ReadFile(f.Cert)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate key: %w", err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil && strings.Contains(string(key), "ENCRYPTED") {
		err = ErrEncryptedKey
	}
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.Cert, keyFile, err)
	}
	return &pair, nil
}

// soon is when an end of validity is worth a warning; what renews certificates
// is normally done with it by then.
const soon = 14 * 24 * time.Hour

func warnOfExpiry(log zerolog.Logger, c *x509.Certificate, now time.Time) {
	switch left := c.NotAfter.Sub(now); {
	case left < 0:
		log.Warn().Time("not_after", c.NotAfter).Msg("certificate has expired; it is served all the same")
	case left < soon:
		log.Warn().Time("not_after", c.NotAfter).Msg("certificate expires soon")
	}
}
