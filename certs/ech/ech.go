// Package ech makes keys for Encrypted Client Hello (RFC 9849) and the
// ECHConfigList that tells clients of them. It keeps nothing: certs does.
package ech

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

var (
	// ErrPublicName says that a name cannot be what observers see.
	ErrPublicName = errors.New("ech: the public name is no host name of letters, digits and hyphens")
	// ErrConfig says that octets are no ECHConfig that this package made.
	ErrConfig = errors.New("ech: malformed ECHConfig")
)

// Key is a private key with the ECHConfig that clients use it by.
type Key struct {
	// Config is the ECHConfig in its wire form. It must reach clients, and
	// crypto/tls, byte for byte.
	Config []byte
	// Private is the key in the form that RFC 9180 section 7.1.2 gives it.
	Private []byte
}

// version is the code point of ECHConfig in RFC 9849 section 4.
const version = 0xfe0d

// suites are the HPKE suites that clients may choose from: HKDF-SHA256 with
// every AEAD that crypto/tls opens.
var suites = [...][2]uint16{{0x0001, 0x0001}, {0x0001, 0x0003}, {0x0001, 0x0002}}

// Generate makes an X25519 key. id should differ from those of the keys that are
// in use beside it; maxName is the length of the longest server name that
// clients will hide, to which they pad.
func Generate(id uint8, publicName string, maxName int) (Key, error) {
	if !isPublicName(publicName) {
		return Key{}, fmt.Errorf("%w: %q", ErrPublicName, publicName)
	}
	private, err := hpke.DHKEM(ecdh.X25519()).GenerateKey()
	if err != nil {
		return Key{}, fmt.Errorf("ech: %w", err)
	}
	secret, err := private.Bytes()
	if err != nil {
		return Key{}, fmt.Errorf("ech: %w", err)
	}
	config, err := marshal(id, private.PublicKey(), publicName, uint8(min(maxName, 255)))
	if err != nil {
		return Key{}, fmt.Errorf("ech: %w", err)
	}
	return Key{Config: config, Private: secret}, nil
}

// isPublicName reports whether clients will accept s (RFC 9849 section 6.1.7).
func isPublicName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil || s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	// A last label of digits makes a name that URL parsers take for an address.
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func marshal(id uint8, public hpke.PublicKey, publicName string, maxName uint8) ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddUint16(version)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint8(id)
		b.AddUint16(public.KEM().ID())
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(public.Bytes()) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, s := range suites {
				b.AddUint16(s[0])
				b.AddUint16(s[1])
			}
		})
		b.AddUint8(maxName)
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(publicName)) })
		b.AddUint16(0) // no extensions
	})
	return b.Bytes()
}

// Parse reads the ID and the public name out of an ECHConfig.
func Parse(config []byte) (id uint8, publicName string, err error) {
	var (
		v, kem                       uint16
		maxName                      uint8
		contents, key, ciphers, exts cryptobyte.String
		name                         cryptobyte.String
		in                           = cryptobyte.String(config)
	)
	if !in.ReadUint16(&v) || v != version || !in.ReadUint16LengthPrefixed(&contents) || !in.Empty() ||
		!contents.ReadUint8(&id) || !contents.ReadUint16(&kem) ||
		!contents.ReadUint16LengthPrefixed(&key) || !contents.ReadUint16LengthPrefixed(&ciphers) ||
		!contents.ReadUint8(&maxName) || !contents.ReadUint8LengthPrefixed(&name) ||
		!contents.ReadUint16LengthPrefixed(&exts) || !contents.Empty() {
		return 0, "", ErrConfig
	}
	return id, string(name), nil
}

// List returns the ECHConfigList of keys, which is what the "ech" parameter of
// an HTTPS or SVCB record holds (RFC 9848), and what clients are configured
// with.
func List(keys ...Key) []byte {
	all := slices.Concat(configs(keys)...)
	b := cryptobyte.NewBuilder(nil)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(all) })
	return b.BytesOrPanic() // a handful of configs of less than 400 octets each
}

func configs(keys []Key) (all [][]byte) {
	for _, k := range keys {
		all = append(all, k.Config)
	}
	return all
}

// ForTLS returns keys for tls.Config.GetEncryptedClientHelloKeys. The first one
// alone is offered to clients whose configuration has grown old.
func ForTLS(keys []Key) []tls.EncryptedClientHelloKey {
	all := make([]tls.EncryptedClientHelloKey, len(keys))
	for i, k := range keys {
		all[i] = tls.EncryptedClientHelloKey{Config: k.Config, PrivateKey: k.Private, SendAsRetry: i == 0}
	}
	return all
}
