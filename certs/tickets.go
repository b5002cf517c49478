package certs

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"posthorn/alpn"
	"posthorn/store"
)

// ticketPrefix is where the ticket keys of a class stand in the store: one
// record of keys, newest first, each the time when it was made (seconds since
// 1970, big endian) and its 32 bytes.
const ticketPrefix = "ticket/"

// longestTickets is how long crypto/tls honours any ticket (RFC 8446 section
// 4.6.1).
const longestTickets = 7 * 24 * time.Hour

// ticketClass is a class's record, and how long its keys are accepted once they
// are no longer in use.
type ticketClass struct {
	record string
	keep   time.Duration
}

// ticketClasses are the classes with their defaults. A day bounds how long a
// stolen mail ticket key is good for.
func (c *Config) ticketClasses() [2]ticketClass {
	return [...]ticketClass{
		alpn.Web:  {ticketPrefix + "web", cmp.Or(c.WebTickets, longestTickets)},
		alpn.Mail: {ticketPrefix + "mail", cmp.Or(c.MailTickets, 24*time.Hour)},
	}
}

// ticketKeys are the keys of each class, the one in use first.
type ticketKeys [2][][32]byte

// inUse is how long a key makes new tickets.
const inUse = 24 * time.Hour

// TicketKeys returns a class's session ticket keys for
// tls.Config.SetSessionTicketKeys, the one in use first. The slice is shared and
// must not be changed. It is another one after each rotation: ask again, at most
// every minute.
func (m *Manager) TicketKeys(c alpn.Class) [][32]byte { return m.tickets.Load()[c] }

// rotate brings the ticket keys up to date, in the store and in m.
func (m *Manager) rotate(ctx context.Context) error {
	var keys ticketKeys
	err := m.vault.Update(ctx, func(tx store.Tx) error {
		for class, c := range m.config.ticketClasses() {
			old, err := m.vault.secret(ctx, tx, c.record)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			now := c.current(parseTickets(old), m.config.Now())
			if record := formatTickets(now); string(record) != string(old) {
				if err := m.vault.keep(tx, c.record, record); err != nil {
					return err
				}
			}
			keys[class] = nil
			for _, t := range now {
				keys[class] = append(keys[class], t.key)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("rotate ticket keys: %w", err)
	}
	m.tickets.Store(&keys)
	return nil
}

type ticketKey struct {
	made time.Time
	key  [32]byte
}

// current drops keys that are too old, or from a future that a wrong clock
// showed, and puts a new one in front when the newest has been in use for long
// enough.
func (c ticketClass) current(old []ticketKey, now time.Time) []ticketKey {
	var keys []ticketKey
	for _, t := range old {
		if age := now.Sub(t.made); age >= -inUse && age < inUse+c.keep {
			keys = append(keys, t)
		}
	}
	if len(keys) == 0 || now.Sub(keys[0].made) >= inUse {
		fresh := ticketKey{made: now}
		_, _ = rand.Read(fresh.key[:]) // never fails: crypto/rand ends the process first
		keys = append([]ticketKey{fresh}, keys...)
	}
	return keys
}

const ticketLen = 8 + 32

// parseTickets reads a record. Of a damaged one it takes what is whole: a lost
// ticket key costs a few full handshakes.
func parseTickets(b []byte) (keys []ticketKey) {
	for ; len(b) >= ticketLen; b = b[ticketLen:] {
		keys = append(keys, ticketKey{
			made: time.Unix(int64(binary.BigEndian.Uint64(b)), 0),
			key:  [32]byte(b[8:ticketLen]),
		})
	}
	return keys
}

func formatTickets(keys []ticketKey) []byte {
	b := make([]byte, 0, ticketLen*len(keys))
	for _, t := range keys {
		b = append(binary.BigEndian.AppendUint64(b, uint64(t.made.Unix())), t.key[:]...)
	}
	return b
}
