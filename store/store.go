// Package store holds the gateway's small named values: accounts, keys,
// passwords, certificates and ticket keys, never mail.
//
// KV is the seam between the packages that own those values and the databases
// that keep them. The drivers (badgerkv; later etcdkv) are known only to
// cmd/gateway and tests; storetest is the conformance suite that each passes.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"io"
	"iter"
	"strings"
	"unicode/utf8"
)

var (
	// ErrNotFound says that no value stands under a key.
	ErrNotFound = errors.New("store: not found")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store: closed")
	// ErrTooBig says that one Update holds more than the driver can commit at
	// once; split it. No driver refuses an Update of up to 256 KiB in all.
	ErrTooBig = errors.New("store: transaction too big")
	// ErrInvalid says that a key or a value breaks the rules that KV states.
	ErrInvalid = errors.New("store: invalid key or value")
	// ErrNotEmpty is what Restore answers when there is something already.
	ErrNotEmpty = errors.New("store: not empty")
)

// What a KV takes.
const (
	MaxKey   = 1 << 10
	MaxValue = 128 << 10
)

// Validate returns ErrInvalid when no KV takes value under key. Drivers call it
// in Put; it repeats neither of the two.
func Validate(key string, value []byte) error {
	if key == "" || len(key) > MaxKey || !utf8.ValidString(key) || len(value) > MaxValue {
		return ErrInvalid
	}
	return nil
}

// NameOf names something by a hash, where its own name is secret or longer than a
// key may be: 160 bits of SHA-256, as 32 characters of lower-case base32. People
// type such names behind commands, and base64url could begin as a flag does.
func NameOf(b []byte) string {
	hash := sha256.Sum256(b)
	return strings.ToLower(base32.StdEncoding.EncodeToString(hash[:20]))
}

// Item is one named value, or, from Watch, the news that it is gone.
type Item struct {
	Key     string
	Value   []byte // owned by the receiver
	Deleted bool   // only from Watch; Value is nil then
}

// Reader is what a KV and a transaction have in common.
type Reader interface {
	// Get returns the value under key, or ErrNotFound. The caller owns it.
	Get(ctx context.Context, key string) ([]byte, error)
	// Scan yields the items whose keys begin with prefix, in byte order of
	// their keys, from one consistent snapshot. It stops after the first error.
	Scan(ctx context.Context, prefix string) iter.Seq2[Item, error]
}

// Tx is a serializable transaction. It reads its own writes, a Scan those made
// before it began; writing and scanning again inside a Scan is fine. It is valid
// only inside the function that Update called, on its goroutine.
type Tx interface {
	Reader
	// Put sets the value under key (ErrInvalid). The value is the caller's again
	// when Put returns.
	Put(key string, value []byte) error
	// Delete removes key; a key that is not there is no error.
	Delete(key string) error
}

// KV keeps named values. Keys are non-empty UTF-8 of at most MaxKey bytes with
// "/" between their parts; values are at most MaxValue bytes and may be empty. All methods may be called
// concurrently.
type KV interface {
	Reader
	// ScanAfter is Scan, but for the items up to a key, which need not be there; so a
	// part of a long list takes no longer than that of a short one.
	ScanAfter(ctx context.Context, prefix, key string) iter.Seq2[Item, error]
	// Count returns how many items Scan would yield, without reading their values.
	Count(ctx context.Context, prefix string) (int, error)
	// Update runs fn in a transaction and commits what it wrote when fn
	// returns nil; when Update returns nil, that is on disk. fn must have no
	// other side effects: it runs again when another transaction wrote what it
	// read. fn's error is returned as it is, and nothing is written.
	Update(ctx context.Context, fn func(Tx) error) error
	// Watch yields what is committed under prefix after Watch has returned, in
	// commit order, until ctx ends or the store closes; the error then is the
	// last element. Values may be coalesced: a slow reader sees the latest
	// value of a key, but never misses that it changed. The sequence is to be
	// ranged over once.
	Watch(ctx context.Context, prefix string) (iter.Seq2[Item, error], error)
	// Lock waits for the named lock, which in a cluster is the cluster's.
	// unlock may be called once.
	Lock(ctx context.Context, name string) (unlock func(), err error)
	// Close ends all sequences and waits for running transactions. What is called
	// later returns ErrClosed; a second Close does nothing.
	Close() error
}

// Versioned is a KV whose readers can tell whether anything has changed since
// they last read, which is cheaper than to read again.
type Versioned interface {
	// Version is another number after each change that a Get which begins now
	// would see. Who reads it before a value and finds it unchanged later knows
	// that the value is still the same. Zero says nothing: the store is closed.
	Version() uint64
}

// Backuper is a KV that can write itself out while it is in use, and read
// such a stream back. Both streams are the driver's own format.
type Backuper interface {
	Backup(ctx context.Context, w io.Writer) error
	// Restore fills an empty store; otherwise it returns ErrNotEmpty.
	Restore(ctx context.Context, r io.Reader) error
}
