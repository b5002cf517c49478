package accounts

import (
	"math"
	"time"
)

// openPerGuess is how many unanswered attempts take the place of a guess.
const openPerGuess = 5

// failures is what is remembered of a subject. Its zero value is a clean
// record.
type failures struct {
	pending int           // passwords being evaluated
	recent  []time.Time   // when those within the window failed, oldest first; fewer than PerSource, unless that was lowered
	open    []time.Time   // when those within the window ended unanswered, oldest first
	strikes int           // blocks so far
	until   time.Time     // when the last block ends
	settled chan struct{} // closed when pending falls; nil: nobody waits
}

// prune forgets what is over.
func (f *failures) prune(t Throttle, now time.Time) {
	for _, times := range []*[]time.Time{&f.recent, &f.open} {
		n := 0
		for n < len(*times) && now.Sub((*times)[n]) >= t.Window {
			n++
		}
		*times = (*times)[:copy(*times, (*times)[n:])]
	}
	if now.Sub(f.until) >= maxBlock*t.Block {
		f.strikes, f.until = 0, time.Time{}
	}
}

func (f *failures) blocked(now time.Time) bool { return now.Before(f.until) }

// delay is for how long an attempt is held back: not at all until the source
// has used most of what it may, then longer and longer.
func (f *failures) delay(t Throttle, now time.Time) time.Duration {
	f.prune(t, now)
	if f.blocked(now) {
		return maxDelay
	}
	over := len(f.recent) - max(1, t.PerSource*7/10)
	if over < 0 {
		return 0
	}
	return min(maxDelay, 500*time.Millisecond<<min(over, 8))
}

// reserve counts an attempt as pending. When it may not, either the subject is
// blocked and settled is nil, or it has to try again once settled is closed or
// the source has eased. An attempt that nobody answered is no failure, and leads
// to no block, as nobody shall be locked out by a mail system that is ill; but it
// may have been a guess, so some of them take the place of one.
func (f *failures) reserve(t Throttle, now time.Time) (ok bool, settled <-chan struct{}) {
	f.prune(t, now)
	if len(f.recent) >= t.PerSource { // the limit was lowered meanwhile
		f.block(t, now)
	}
	switch {
	case f.blocked(now):
		return false, nil
	case len(f.recent)+len(f.open)/openPerGuess+f.pending < t.PerSource:
		f.pending++
		return true, nil
	}
	if f.settled == nil {
		f.settled = make(chan struct{})
	}
	return false, f.settled
}

// eased is after what time the next attempt is forgotten; zero: there is none.
func (f *failures) eased(t Throttle, now time.Time) time.Duration {
	var first time.Time
	for _, times := range [][]time.Time{f.recent, f.open} {
		if len(times) > 0 && (first.IsZero() || times[0].Before(first)) {
			first = times[0]
		}
	}
	if first.IsZero() {
		return 0
	}
	return max(1, t.Window-now.Sub(first))
}

// settle ends a pending attempt. A subject that reaches its limit is blocked.
func (f *failures) settle(t Throttle, now time.Time, o outcome) {
	f.prune(t, now)
	f.pending--
	f.wake()
	switch o {
	case unanswered:
		f.open = append(f.open, now)
	case failed:
		f.recent = append(f.recent, now)
		if len(f.recent) >= t.PerSource {
			f.block(t, now)
		}
	}
}

// wake has those try again that wait for a reservation.
func (f *failures) wake() {
	if f.settled != nil {
		close(f.settled)
		f.settled = nil
	}
}

// block begins a block, each time of twice the length.
func (f *failures) block(t Throttle, now time.Time) {
	f.recent = nil
	f.until = now.Add(t.Block * time.Duration(min(maxBlock, 1<<min(f.strikes, 10))))
	f.strikes++
}

// forgive wipes the record, but for what is going on.
func (f *failures) forgive() {
	f.recent, f.open, f.strikes, f.until = nil, nil, 0, time.Time{}
	f.wake()
}

func (f *failures) weight(t Throttle, now time.Time) weight {
	f.prune(t, now)
	switch {
	case f.strikes > 0:
		return heavy
	case len(f.recent)+len(f.open) > 0:
		return light
	}
	return empty
}

// slowness is what is remembered of a user name, real or not: how often it
// failed lately, from anywhere.
type slowness struct {
	score float64 // failures, each of which counts half after slowHalfLife
	at    time.Time
}

const (
	slowHalfLife = 5 * time.Minute
	slowFree     = 20 // failures that people make by themselves
)

func (s *slowness) now(now time.Time) float64 {
	age := max(0, now.Sub(s.at))
	return s.score * math.Exp2(-age.Seconds()/slowHalfLife.Seconds())
}

func (s *slowness) add(now time.Time) { s.score, s.at = s.now(now)+1, now }

// delay grows with the score and has a limit, so that its owner always gets
// in.
func (s *slowness) delay(now time.Time) time.Duration {
	over := s.now(now) - slowFree
	if over < 0 {
		return 0
	}
	return min(maxDelay, time.Duration(over+1)*100*time.Millisecond)
}

func (s *slowness) weight(now time.Time) weight {
	switch score := s.now(now); {
	case score >= slowFree:
		return heavy
	case score >= 0.5:
		return light
	}
	return empty
}
