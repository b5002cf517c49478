package admin

import "errors"

// Scope is what a token may do. Each includes those before it; the zero value
// may do nothing.
type Scope uint8

const (
	ScopeRead     Scope = 1 + iota // see everything but secrets
	ScopeAccounts                  // and change accounts with all that is theirs
	ScopeAll                       // and everything else
)

// ErrScope says that a text names no scope.
var ErrScope = errors.New("not a scope: want read, accounts or all")

var scopeNames = [...]string{ScopeRead: "read", ScopeAccounts: "accounts", ScopeAll: "all"}

func (s Scope) String() string {
	if s == 0 || int(s) >= len(scopeNames) {
		return "none"
	}
	return scopeNames[s]
}

// ParseScope is the inverse of String, but for the zero value.
func ParseScope(text string) (Scope, error) {
	for s := ScopeRead; s <= ScopeAll; s++ {
		if scopeNames[s] == text {
			return s, nil
		}
	}
	return 0, ErrScope
}

// MarshalText implements encoding.TextMarshaler.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Scope) UnmarshalText(text []byte) (err error) {
	*s, err = ParseScope(string(text))
	return err
}

// least says what scope each action wants at least. What does not stand here is
// for operators without limits alone.
var least = map[string]Scope{
	"status":         ScopeRead,
	"metrics":        ScopeRead,
	"whoami":         ScopeRead,
	"limit list":     ScopeRead,
	"backend list":   ScopeRead,
	"audit":          ScopeRead,
	"account list":   ScopeRead,
	"account show":   ScopeRead,
	"account logins": ScopeRead,
	"key list":       ScopeRead,
	"key show":       ScopeRead,
	"passkey list":   ScopeRead,
	"session list":   ScopeRead,
	"conn list":      ScopeRead,
	"block list":     ScopeRead,
	"cert list":      ScopeRead,
	"cert show":      ScopeRead,
	"ech show":       ScopeRead,
	"ticket show":    ScopeRead,
	"dns":            ScopeRead,

	"account add":            ScopeAccounts,
	"account enable":         ScopeAccounts,
	"account disable":        ScopeAccounts,
	"account backend":        ScopeAccounts,
	"account remove":         ScopeAccounts,
	"account password":       ScopeAccounts,
	"account address add":    ScopeAccounts,
	"account address remove": ScopeAccounts,
	"key add":                ScopeAccounts,
	"key set":                ScopeAccounts,
	"key remove":             ScopeAccounts,
	"passkey remove":         ScopeAccounts,
	"session end":            ScopeAccounts,
	"conn close":             ScopeAccounts,
	"block remove":           ScopeAccounts,

	"cert check":    ScopeAll, // it connects to where the caller says
	"cert renew":    ScopeAll,
	"ticket rotate": ScopeAll,
	"backup":        ScopeAll, // it holds secrets
	"token list":    ScopeAll,
	"token add":     ScopeAll,
	"token remove":  ScopeAll,
}

// may reports whether an actor may do something to everybody's.
func (a Actor) may(action string) bool {
	if a.Operator {
		return true
	}
	needs, known := least[action]
	return known && a.Scope >= needs
}
