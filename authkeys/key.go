package authkeys

import (
	"encoding/binary"
	"errors"
	"time"
)

// Key is a registered key.
type Key struct {
	Fingerprint Fingerprint `json:"fingerprint"`
	Account     string      `json:"account"` // the account's ID
	Name        string      `json:"name"`    // the device, for people
	Type        string      `json:"type"`
	Created     time.Time   `json:"created"`
	LastUsed    time.Time   `json:"last_used,omitzero"`
	LastUse     string      `json:"last_use,omitempty"` // protocol and mechanism, such as "imap PREAUTH"
	NoPreauth   bool        `json:"no_preauth,omitempty"`
	Expires     time.Time   `json:"expires,omitzero"` // zero: never
	Scope       Scope       `json:"scope,omitempty"`
}

var (
	// ErrExpired says that a key was registered for a time that is over.
	ErrExpired = errors.New("key has expired")
	// ErrScope says that a key may log in to other protocols only.
	ErrScope = errors.New("key is not for this protocol")
)

// Usable reports why k may not log in to scope at a time: nil, ErrExpired or
// ErrScope.
func (k *Key) Usable(scope Scope, at time.Time) error {
	if !k.Expires.IsZero() && !at.Before(k.Expires) {
		return ErrExpired
	}
	if !k.Scope.Allows(scope) {
		return ErrScope
	}
	return nil
}

// A record is a Key in the store, without its fingerprint, which is in the
// record's name: the version, flags and scope in one byte each; Created, and
// Expires and LastUsed if the flags say so, as seconds and nanoseconds since
// 1970 in varints; Account, Name, Type and LastUse, each with its length in
// front. A third of the size of JSON and a tenth of the time, which is what a
// million keys are about.
const recordVersion = 1

const (
	flagNoPreauth = 1 << iota
	flagExpires
	flagUsed
)

var errRecord = errors.New("authkeys: damaged record")

func (k *Key) record() []byte {
	var flags byte
	if k.NoPreauth {
		flags |= flagNoPreauth
	}
	if !k.Expires.IsZero() {
		flags |= flagExpires
	}
	if !k.LastUsed.IsZero() {
		flags |= flagUsed
	}
	b := make([]byte, 0, 48+len(k.Account)+len(k.Name)+len(k.Type)+len(k.LastUse))
	b = append(b, recordVersion, flags, byte(k.Scope))
	b = appendTime(b, k.Created)
	if flags&flagExpires != 0 {
		b = appendTime(b, k.Expires)
	}
	if flags&flagUsed != 0 {
		b = appendTime(b, k.LastUsed)
	}
	for _, s := range [...]string{k.Account, k.Name, k.Type, k.LastUse} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Unix()), uint64(t.Nanosecond()))
}

// parseRecord is the inverse of record.
func parseRecord(f Fingerprint, b []byte) (Key, error) {
	if len(b) < 3 || b[0] != recordVersion {
		return Key{}, errRecord
	}
	flags := b[1]
	k := Key{Fingerprint: f, NoPreauth: flags&flagNoPreauth != 0, Scope: Scope(b[2])}
	r := recordReader{rest: string(b[3:])}
	k.Created = r.time()
	if flags&flagExpires != 0 {
		k.Expires = r.time()
	}
	if flags&flagUsed != 0 {
		k.LastUsed = r.time()
	}
	k.Account, k.Name, k.Type, k.LastUse = r.string(), r.string(), r.string(), r.string()
	if r.bad || r.rest != "" {
		return Key{}, errRecord
	}
	return k, nil
}

// recordReader takes a record apart. The strings that it returns share one
// allocation.
type recordReader struct {
	rest string
	bad  bool
}

func (r *recordReader) uvarint() uint64 {
	var v uint64
	for shift := 0; shift < 64 && r.rest != ""; shift += 7 {
		c := r.rest[0]
		r.rest = r.rest[1:]
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.bad = true
	return 0
}

func (r *recordReader) time() time.Time {
	zigzag := r.uvarint()
	sec := int64(zigzag>>1) ^ -int64(zigzag&1)
	return time.Unix(sec, int64(r.uvarint())).UTC()
}

func (r *recordReader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad = true
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}
