package authkeys

import (
	"errors"
	"fmt"
	"strings"
)

// Scope is the set of protocols that a key may log in to. The zero value means
// all of them.
type Scope uint8

const (
	ScopeIMAP Scope = 1 << iota
	ScopeSMTP
	ScopeHTTPS
)

// ErrBadScope says that a text names no protocols.
var ErrBadScope = errors.New("not a scope: want all, or some of imap, smtp, https with commas between them")

// scopeNames are in the order of the bits.
var scopeNames = [...]string{"imap", "smtp", "https"}

const scopeAll = "all"

// Allows reports whether a key of scope s may log in to all of want.
func (s Scope) Allows(want Scope) bool { return s == 0 || s&want == want }

// String returns the names of the protocols with commas between them, such as
// "imap,smtp"; "all" for the zero value.
func (s Scope) String() string {
	if s == 0 {
		return scopeAll
	}
	var names []string
	for i, name := range scopeNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if rest := s >> len(scopeNames); rest != 0 {
		names = append(names, fmt.Sprintf("%#x", uint8(s)))
	}
	return strings.Join(names, ",")
}

// ParseScope is the inverse of String. It ignores case and spaces, and takes
// the empty text for all protocols.
func ParseScope(text string) (Scope, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" || text == scopeAll {
		return 0, nil
	}
	var s Scope
	for name := range strings.SplitSeq(text, ",") {
		bit := scopeBit(strings.TrimSpace(name))
		if bit == 0 {
			return 0, ErrBadScope
		}
		s |= bit
	}
	return s, nil
}

func scopeBit(name string) Scope {
	for i, n := range scopeNames {
		if n == name {
			return 1 << i
		}
	}
	return 0
}

// MarshalText implements encoding.TextMarshaler.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Scope) UnmarshalText(b []byte) (err error) {
	*s, err = ParseScope(string(b))
	return err
}
