package accounts

import (
	"fmt"
	"slices"
	"time"
)

// Block is a source whose passwords are refused for a while. Its keys are not.
type Block struct {
	Source string    `json:"source"` // an IPv4 address, an IPv6 /64, or the fingerprint of a key whose holder guesses
	Until  time.Time `json:"until"`
	Count  int       `json:"count"` // how often it has been blocked lately
}

// Blocks returns the blocks in force, those that last longest first.
func (s *Store) Blocks() []Block { return s.limiter.blocks() }

// Unblock forgets the failures of a source, given as Block.Source is or as any
// address of it, and reports whether it was blocked.
func (s *Store) Unblock(source string) (bool, error) {
	sub, err := parseSubject(source)
	if err != nil {
		return false, fmt.Errorf("unblock: %w", err)
	}
	return s.limiter.unblock(sub), nil
}

// IsSource reports whether Unblock takes a text.
func IsSource(text string) bool {
	_, err := parseSubject(text)
	return err == nil
}

func (l *limiter) blocks() []Block {
	now := l.now()
	var all []Block
	l.mu.Lock()
	for _, t := range []*table[subject, failures]{l.v4, l.v6, l.keys} {
		for s, e := range t.entries {
			if e.value.blocked(now) {
				all = append(all, Block{s.String(), e.value.until, e.value.strikes})
			}
		}
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b Block) int { return b.Until.Compare(a.Until) })
	return all
}

func (l *limiter) unblock(s subject) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.table(s).hold(s)
	was := e.value.blocked(now)
	e.value.forgive()
	l.table(s).release(e)
	return was
}
