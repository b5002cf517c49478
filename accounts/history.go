package accounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"posthorn/authkeys"
	"posthorn/store"
)

// Attempt is one or more logins to an account, or failures to log in to it, of
// the same kind.
type Attempt struct {
	Time      time.Time            `json:"time"`             // of the last one
	Since     time.Time            `json:"since"`            // of the first one
	Count     int                  `json:"count"`            // how many there were
	Protocol  string               `json:"protocol"`         // "imap", "smtp" or "https"
	Mechanism string               `json:"mechanism"`        // as in Login
	Key       authkeys.Fingerprint `json:"key,omitzero"`     // the one that was shown; zero: none that counts
	Remote    netip.Addr           `json:"remote,omitzero"`  // zero: not known, or not kept (Options.Privacy)
	Reason    Reason               `json:"reason,omitempty"` // of the refusal; empty: it logged in
}

// kind is what attempts have in common that are told of as one.
type kind struct {
	protocol, mechanism string
	key                 authkeys.Fingerprint
	remote              netip.Addr
	reason              Reason
}

func (a *Attempt) kind() kind { return kind{a.Protocol, a.Mechanism, a.Key, a.Remote, a.Reason} }

// How much is kept. Failures do not push out logins, lest a stranger who guesses
// hides one that has succeeded.
const (
	keepLogins   = 30
	keepFailures = 20
	// together is for how long attempts of a kind are one entry.
	together = time.Hour
	// keepHistories is how many accounts have a history; those that nobody has
	// tried to log in to for longest lose theirs.
	// Trimming reads all of them, so it waits until there are a twentieth more.
	keepHistories = 20_000
	// maxPending is how many accounts' attempts wait in memory to be written.
	// Beyond it there is nothing to be told of new ones until they are.
	maxPending = 5_000
)

// historyPrefix is where histories stand: historyPrefix + account ID.
const historyPrefix = "logins/"

// history is the attempts that the store does not have yet.
type history struct {
	privacy bool
	full    chan struct{} // holds an element when there is much to write

	mu      sync.Mutex
	pending map[string][]Attempt // by account ID, oldest first; guarded by mu

	// Of the histories in the store only Run knows.
	keep  int // how many there may be
	count int // how many there are; -1: not counted yet
}

func newHistory(privacy bool) *history {
	return &history{privacy: privacy, full: make(chan struct{}, 1), pending: make(map[string][]Attempt), keep: keepHistories, count: -1}
}

// Record notes an attempt that this package has not decided about, such as a
// login with a passkey. Time, Since and Count are filled in. It is cheap: Run
// writes the notes to the store every minute, and loses at most that on a crash.
func (s *Store) Record(account string, a Attempt) {
	h := s.history
	if h.privacy {
		a.Remote = netip.Addr{}
	}
	a.Time = s.now().UTC().Truncate(time.Second)
	a.Since, a.Count, a.Remote = a.Time, 1, a.Remote.Unmap().WithZone("")
	h.mu.Lock()
	defer h.mu.Unlock()
	before, known := h.pending[account]
	if !known && len(h.pending) >= maxPending {
		return
	}
	h.pending[account] = note(before, a)
	if !known && len(h.pending) == maxPending/2 {
		select {
		case h.full <- struct{}{}:
		default:
		}
	}
}

// note appends an attempt, which is no older than those that are there.
func note(all []Attempt, a Attempt) []Attempt {
	k := a.kind()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].kind() == k && a.Time.Sub(all[i].Since) < together && !a.Time.Before(all[i].Since) {
			a.Since, a.Count = all[i].Since, all[i].Count+a.Count
			return append(slices.Delete(all, i, i+1), a)
		}
	}
	all = append(all, a)
	if a.Reason == "" {
		return drop(all, keepLogins, func(o *Attempt) bool { return o.Reason == "" })
	}
	return drop(all, keepFailures, func(o *Attempt) bool { return o.Reason != "" })
}

// drop removes the first of those that match when there are more than keep.
func drop(all []Attempt, keep int, match func(*Attempt) bool) []Attempt {
	n, first := 0, 0
	for i := len(all) - 1; i >= 0; i-- {
		if match(&all[i]) {
			n, first = n+1, i
		}
	}
	if n <= keep {
		return all
	}
	return slices.Delete(all, first, first+1)
}

// recordLogin notes that somebody has logged in, once.
func (s *Store) recordLogin(l *Login) {
	if l.recorded {
		return
	}
	l.recorded = true
	s.Record(l.Account.ID, Attempt{
		Protocol: l.Peer.Scope.String(), Mechanism: l.Mechanism, Key: l.Key, Remote: l.Peer.Remote,
	})
}

// recordRefusal notes that a login has failed: to account, or when that is empty
// to the one whose key was refused. There is nothing to note about accounts that
// do not exist, nor of what is no refusal.
func (s *Store) recordRefusal(err error, p Peer, mechanism string, key authkeys.Fingerprint, account string) {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		return
	}
	if account = cmp.Or(account, refused.account); account != "" {
		s.Record(account, Attempt{
			Protocol: p.Scope.String(), Mechanism: mechanism, Key: key, Remote: p.Remote, Reason: refused.Reason,
		})
	}
}

// Recent returns the latest attempts to log in to an account, newest first:
// those of each kind that come within an hour are one. Of an account that does
// not exist there are none.
func (s *Store) Recent(ctx context.Context, id string) ([]Attempt, error) {
	if _, err := s.Get(ctx, id); err != nil {
		return nil, err
	}
	all, err := readHistory(ctx, s.kv, id)
	if err != nil {
		return nil, err
	}
	s.history.mu.Lock()
	for _, a := range s.history.pending[id] {
		all = note(all, a)
	}
	s.history.mu.Unlock()
	slices.Reverse(all)
	return all, nil
}

func readHistory(ctx context.Context, r store.Reader, id string) ([]Attempt, error) {
	b, err := r.Get(ctx, historyPrefix+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read recent logins: %w", err)
	}
	return decodeHistory(b)
}

const (
	writeHistory   = time.Minute
	historiesPerTx = 40 // of up to 4 KiB each, below what every driver takes at once
	lastChance     = 5 * time.Second
)

// Run writes what Record noted, until ctx ends; then once more. What cannot be
// written (a full disk) is kept for the next time; only the last failure is
// returned.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(writeHistory)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = s.writeHistory(ctx)
		case <-s.history.full:
			_ = s.writeHistory(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastChance)
			defer cancel()
			if err := s.writeHistory(last); err != nil {
				return fmt.Errorf("note recent logins: %w", err)
			}
			return nil
		}
	}
}

// writeHistory brings the records up to date, some at a time. What is being
// written stays pending until it is, so that nobody misses it meanwhile.
func (s *Store) writeHistory(ctx context.Context) error {
	h := s.history
	h.mu.Lock()
	ids := slices.Collect(maps.Keys(h.pending))
	h.mu.Unlock()
	for some := range slices.Chunk(ids, historiesPerTx) {
		h.mu.Lock()
		now := make(map[string][]Attempt, len(some))
		for _, id := range some {
			now[id] = slices.Clone(h.pending[id])
		}
		h.mu.Unlock()
		var added int
		err := s.kv.Update(ctx, func(tx store.Tx) (err error) {
			added, err = putHistories(ctx, tx, now)
			return err
		})
		if err != nil {
			return err
		}
		if h.count >= 0 {
			h.count += added
		}
		h.written(now)
	}
	return s.trimHistories(ctx)
}

// written forgets what the store has now.
func (h *history) written(now map[string][]Attempt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, wrote := range now {
		left := h.pending[id]
		for _, w := range wrote {
			left = subtract(left, w)
		}
		if h.pending[id] = left; len(left) == 0 {
			delete(h.pending, id)
		}
	}
}

// subtract takes from all what w, an earlier state of one of them, has counted.
func subtract(all []Attempt, w Attempt) []Attempt {
	for i := range all {
		if all[i].kind() != w.kind() || !all[i].Since.Equal(w.Since) {
			continue
		}
		if all[i].Count -= w.Count; all[i].Count <= 0 {
			return slices.Delete(all, i, i+1)
		}
		return all
	}
	return all
}

// putHistories updates the histories of some accounts, and returns how many are
// new. An account that is gone has none.
func putHistories(ctx context.Context, tx store.Tx, now map[string][]Attempt) (added int, err error) {
	for id, attempts := range now {
		if _, err := tx.Get(ctx, Prefix+id); errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return 0, err
		}
		all, err := readHistory(ctx, tx, id)
		if err != nil && !errors.Is(err, errHistory) { // a damaged one cannot be mended; what comes now can be told
			return 0, err
		}
		if len(all) == 0 {
			added++
		}
		for _, a := range attempts {
			all = note(all, a)
		}
		if err := tx.Put(historyPrefix+id, encodeHistory(all)); err != nil {
			return 0, err
		}
	}
	return added, nil
}

// trimHistories deletes the histories that are oldest when there are too many.
func (s *Store) trimHistories(ctx context.Context) error {
	h := s.history
	if h.count >= 0 && h.count <= h.keep+h.keep/20 {
		return nil
	}
	type last struct {
		key string
		at  time.Time
	}
	var all []last
	for item, err := range s.kv.Scan(ctx, historyPrefix) {
		if err != nil {
			return err
		}
		l := last{key: item.Key}
		if attempts, err := decodeHistory(item.Value); err == nil && len(attempts) > 0 {
			l.at = attempts[len(attempts)-1].Time
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b last) int { return a.at.Compare(b.at) })
	h.count = len(all)
	for some := range slices.Chunk(all[:max(0, len(all)-h.keep)], 500) {
		err := s.kv.Update(ctx, func(tx store.Tx) error {
			for _, l := range some {
				if err := tx.Delete(l.key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		h.count -= len(some)
	}
	return nil
}
