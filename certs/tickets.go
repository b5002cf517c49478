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

// ticketClass is a class's record, and how long its tickets are accepted.
type ticketClass struct {
	record string
	life   time.Duration
}

// ticketClasses are the classes with their defaults. A day bounds how long a
// stolen mail ticket key is good for.
func (c *Config) ticketClasses() [2]ticketClass {
	return [...]ticketClass{
		alpn.Web:  {ticketPrefix + "web", cmp.Or(c.WebTickets, longestTickets)},
		alpn.Mail: {ticketPrefix + "mail", cmp.Or(c.MailTickets, 24*time.Hour)},
	}
}

// inUse is how long a key makes new tickets: a day, or half of what there is, so
// that a ticket always has the other half before it.
func (c ticketClass) inUse() time.Duration { return min(24*time.Hour, c.life/2) }

// ticketKeys are the keys of each class, the one in use first.
type ticketKeys [2][]ticketKey

// askedEvery is how often TicketKeys is asked at least.
const askedEvery = time.Minute

// TicketKeys returns a class's session ticket keys for
// tls.Config.SetSessionTicketKeys, the one in use first. The caller asks again
// every minute before it accepts a ticket: a key that will be too old by then is
// none of them.
func (m *Manager) TicketKeys(c alpn.Class) (keys [][32]byte) {
	life, now := m.config.ticketClasses()[c].life, m.config.Now()
	for i, t := range m.tickets.Load()[c] {
		// The first one stays when the clock leaps, until rotate makes another.
		if i == 0 || now.Sub(t.made) < life-askedEvery {
			keys = append(keys, t.key)
		}
	}
	return keys
}

// rotate brings the ticket keys up to date, in the store and in m. When the
// store fails, the keys are rotated all the same, and those made meanwhile do
// not outlive the process.
func (m *Manager) rotate(ctx context.Context) error {
	return m.rotateWith(ctx, ticketClass.current)
}

// rotateWith is rotate by next, which returns the keys that follow those of a class.
func (m *Manager) rotateWith(ctx context.Context, next func(c ticketClass, old []ticketKey, now time.Time) []ticketKey) error {
	var keys ticketKeys
	now := m.config.Now()
	classes := m.config.ticketClasses()
	err := m.vault.Update(ctx, func(tx store.Tx) error {
		for class, c := range classes {
			old, err := m.vault.secret(ctx, tx, c.record)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			keys[class] = next(c, parseTickets(old), now)
			if record := formatTickets(keys[class]); string(record) != string(old) {
				if err := m.vault.keep(tx, c.record, record); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if before := m.tickets.Load(); err != nil && before != nil {
		for class, c := range classes {
			keys[class] = next(c, before[class], now)
		}
	} else if err != nil {
		return fmt.Errorf("rotate ticket keys: %w", err)
	}
	m.tickets.Store(&keys)
	if err != nil {
		return fmt.Errorf("store ticket keys: %w", err)
	}
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
	keys := c.accepted(old, now)
	if len(keys) == 0 || now.Sub(keys[0].made) >= c.inUse() {
		keys = append([]ticketKey{newTicketKey(now)}, keys...)
	}
	return keys
}

// accepted are the keys whose tickets are accepted.
func (c ticketClass) accepted(old []ticketKey, now time.Time) (keys []ticketKey) {
	for _, t := range old {
		if age := now.Sub(t.made); age >= -c.inUse() && age < c.life {
			keys = append(keys, t)
		}
	}
	return keys
}

func newTicketKey(now time.Time) ticketKey {
	fresh := ticketKey{made: now}
	_, _ = rand.Read(fresh.key[:]) // never fails: crypto/rand ends the process first
	return fresh
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
