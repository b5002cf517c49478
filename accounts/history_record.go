package accounts

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"posthorn/authkeys"
)

// A history's record is its version and then its attempts, oldest first, each in
// about 60 bytes: a record is written anew with every login, and JSON would be
// a noticeable part of what that costs.
const historyVersion = 1

var errHistory = errors.New("decode recent logins: the record is damaged")

func encodeHistory(all []Attempt) []byte {
	b := make([]byte, 1, 64*len(all)+1)
	b[0] = historyVersion
	for i := range all {
		a := &all[i]
		b = binary.AppendVarint(b, a.Time.Unix())
		b = binary.AppendUvarint(b, uint64(a.Time.Sub(a.Since)/time.Second))
		b = binary.AppendUvarint(b, uint64(a.Count))
		b = appendBytes(b, a.Protocol)
		b = appendBytes(b, a.Mechanism)
		b = appendBytes(b, string(a.Reason))
		b = appendBytes(b, a.Remote.AsSlice())
		if a.Key.IsZero() {
			b = appendBytes(b, "")
		} else {
			b = appendBytes(b, a.Key[:])
		}
	}
	return b
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decodeHistory is the inverse of encodeHistory.
func decodeHistory(b []byte) (all []Attempt, err error) {
	if len(b) == 0 || b[0] != historyVersion {
		return nil, errHistory
	}
	r := historyReader{rest: b[1:]}
	for len(r.rest) > 0 && !r.bad {
		at, length, count := r.varint(), r.uvarint(), r.uvarint()
		a := Attempt{
			Time: time.Unix(at, 0).UTC(), Since: time.Unix(at-int64(length), 0).UTC(), Count: int(count),
			Protocol: string(r.bytes()), Mechanism: string(r.bytes()), Reason: Reason(r.bytes()),
		}
		remote, key := r.bytes(), r.bytes()
		var ok bool
		if a.Remote, ok = netip.AddrFromSlice(remote); !ok && len(remote) > 0 {
			r.bad = true
		}
		if len(key) != 0 && len(key) != len(authkeys.Fingerprint{}) {
			r.bad = true
		}
		copy(a.Key[:], key)
		all = append(all, a)
	}
	if r.bad {
		return nil, errHistory
	}
	return all, nil
}

// historyReader takes a record apart.
type historyReader struct {
	rest []byte
	bad  bool
}

func (r *historyReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	r.skip(n)
	return v
}

func (r *historyReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	r.skip(n)
	return v
}

func (r *historyReader) skip(n int) {
	if n <= 0 {
		r.bad, r.rest = true, nil
		return
	}
	r.rest = r.rest[n:]
}

func (r *historyReader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
