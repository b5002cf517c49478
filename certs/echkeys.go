package certs

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"posthorn/certs/ech"
	"posthorn/store"
)

// echRecord holds the Encrypted Client Hello keys, newest first: each the time
// when it was made (seconds since 1970), its ECHConfig and its private key.
const echRecord = "ech/keys"

// A key is published for echInUse and accepted until it is echKept old, which
// leaves those who publish it by hand two months.
const (
	echInUse = 30 * 24 * time.Hour
	echKept  = 90 * 24 * time.Hour
)

type echKey struct {
	made time.Time
	ech.Key
}

// echKeys is what handshakes and publishers of ECH look at. It does not change
// once it is stored.
type echKeys struct {
	list []byte
	tls  []tls.EncryptedClientHelloKey
}

// ECHKeys implements tls.Config.GetEncryptedClientHelloKeys. crypto/tls asks for
// them once with the config of the listener, and once more with the one that
// GetConfigForClient returned, so both configs want it. Without ECH there are
// none, and a client that tries it goes on with its outer hello.
func (m *Manager) ECHKeys(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
	return m.ech.Load().tls, nil
}

// ECHConfigList returns the ECHConfigList to publish (RFC 9849 section 4); nil
// when ECH is off. It has the newest key alone.
func (m *Manager) ECHConfigList() []byte { return m.ech.Load().list }

// rotateECH brings the keys up to date, in the store and in m.
func (m *Manager) rotateECH(ctx context.Context) error {
	if m.config.ECHPublicName == "" {
		m.ech.Store(&echKeys{tls: []tls.EncryptedClientHelloKey{}})
		return nil
	}
	var (
		keys []echKey
		made bool
	)
	err := m.vault.Update(ctx, func(tx store.Tx) error {
		old, err := m.vault.secret(ctx, tx, echRecord)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		before := parseECH(old)
		if keys, made, err = m.currentECH(before); err != nil {
			return err
		}
		if !made && len(keys) == len(before) {
			return nil
		}
		return m.vault.keep(tx, echRecord, formatECH(keys))
	})
	if err != nil {
		return fmt.Errorf("rotate ECH keys: %w", err)
	}
	m.useECH(keys, made)
	return nil
}

// useECH gives keys to the handshakes to come.
func (m *Manager) useECH(keys []echKey, made bool) {
	plain := make([]ech.Key, len(keys))
	for i, k := range keys {
		plain[i] = k.Key
	}
	m.ech.Store(&echKeys{list: ech.List(plain[0]), tls: ech.ForTLS(plain)})
	if made {
		m.config.Log.Warn().Str("public_name", m.config.ECHPublicName).Time("accepted_until", keys[0].made.Add(echKept)).
			Msg("new ECH key: publish its HTTPS and SVCB records")
	}
}

// currentECH drops keys that are too old, or from a future that a wrong clock
// showed, and puts a new one in front when the newest has been in use for long
// enough or has another public name.
func (m *Manager) currentECH(old []echKey) (keys []echKey, made bool, err error) {
	now := m.config.Now()
	used := make(map[uint8]bool)
	fresh := false
	for _, k := range old {
		id, name, err := ech.Parse(k.Config)
		age := now.Sub(k.made)
		if err != nil || age < -clockSkew || age >= echKept {
			continue
		}
		if len(keys) == 0 {
			fresh = age < echInUse && name == m.config.ECHPublicName
		}
		used[id] = true
		keys = append(keys, k)
	}
	if fresh {
		return keys, false, nil
	}
	var id [1]byte
	for rand.Read(id[:]); used[id[0]]; { // never fails
		id[0]++
	}
	k, err := ech.Generate(id[0], m.config.ECHPublicName, m.longestName())
	if err != nil {
		return nil, false, err
	}
	return slices.Insert(keys, 0, echKey{now, k}), true, nil
}

// longestName is how long the longest name is that a client may hide.
func (m *Manager) longestName() (n int) {
	for _, name := range m.config.Names {
		n = max(n, len(name))
	}
	return n
}

func formatECH(keys []echKey) []byte {
	b := cryptobyte.NewBuilder(nil)
	for _, k := range keys {
		b.AddUint64(uint64(k.made.Unix()))
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(k.Config) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(k.Private) })
	}
	return b.BytesOrPanic() // a few hundred octets
}

// parseECH reads a record. Of a damaged one it takes what is whole: a client
// whose key is lost gets a new one in the retry configs.
func parseECH(record []byte) (keys []echKey) {
	for in := cryptobyte.String(record); !in.Empty(); {
		var (
			made            uint64
			config, private cryptobyte.String
		)
		if !in.ReadUint64(&made) || !in.ReadUint16LengthPrefixed(&config) || !in.ReadUint16LengthPrefixed(&private) {
			break
		}
		keys = append(keys, echKey{time.Unix(int64(made), 0), ech.Key{Config: config, Private: private}})
	}
	return keys
}
