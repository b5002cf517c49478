package accounts

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"time"
)

// Throttle limits password guessing. Zero fields take the defaults.
type Throttle struct {
	PerConn   int           // passwords evaluated on one connection; default 5
	PerSource int           // failures of one source (IPv4 address, IPv6 /64) in Window; default 10
	Window    time.Duration // default 20 s
	Block     time.Duration // for how long a source that went on is blocked at first; each further block is twice as long, up to 12 × Block; default 5 min
}

const (
	// maxTracked bounds each table: about 10 MB when full of attackers.
	maxTracked = 16384
	// maxBlock, in units of Block, is the longest block, and how long a source
	// must keep quiet after one to be forgiven.
	maxBlock = 12
	// maxDelay is the longest that an attempt is held back.
	maxDelay = 2 * time.Second
)

func (t Throttle) withDefaults() Throttle {
	t.PerConn = cmp.Or(t.PerConn, 5)
	t.PerSource = cmp.Or(t.PerSource, 10)
	t.Window = cmp.Or(t.Window, 20*time.Second)
	t.Block = cmp.Or(t.Block, 5*time.Minute)
	return t
}

// limiter decides when a password may be evaluated. Failures are counted per
// subject, which is blocked when it has too many, and per user name, which is
// slowed, wherever they come from, but never blocked: that would let strangers
// lock its owner out.
//
// An attempt is counted before its password is looked at, and taken back when
// it was right, so that attempts made at once do not get more guesses than
// attempts made in turn.
type limiter struct {
	now  func() time.Time
	cpu  chan struct{} // holds one element for each verifier being worked on
	seed maphash.Seed  // keeps strangers from choosing which names collide

	mu       sync.Mutex // guards throttle, and the tables and all in them
	throttle Throttle
	// The sources of IPv6 stand apart because they are cheap to have: nobody
	// can push an IPv4 source out of memory with them, nor a key.
	v4, v6, keys *table[subject, failures]
	users        *table[uint64, slowness]
}

func newLimiter(t Throttle, now func() time.Time) *limiter {
	l := &limiter{
		throttle: t.withDefaults(),
		now:      now,
		cpu:      make(chan struct{}, runtime.GOMAXPROCS(0)),
		seed:     maphash.MakeSeed(),
	}
	weigh := func(f *failures) weight { return f.weight(l.throttle, l.now()) }
	l.v4 = newTable[subject](maxTracked, weigh)
	l.v6 = newTable[subject](maxTracked, weigh)
	l.keys = newTable[subject](maxTracked, weigh)
	l.users = newTable[uint64](maxTracked, func(s *slowness) weight { return s.weight(l.now()) })
	return l
}

// SetThrottle replaces the limits, for connections that are there as well. A
// block that is in force stays.
func (s *Store) SetThrottle(t Throttle) {
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	s.limiter.throttle = t.withDefaults()
}

// perConn is how many passwords a connection may try.
func (l *limiter) perConn() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.throttle.PerConn
}

// table returns the one that s stands in.
func (l *limiter) table(s subject) *table[subject, failures] {
	switch {
	case !s.key.IsZero():
		return l.keys
	case s.source.Addr().Is4():
		return l.v4
	}
	return l.v6
}

// permit is the right to evaluate one password. It ends with settle.
type permit struct {
	// blocked says that the password has to be refused. It is evaluated all
	// the same, so that the answer takes as long as any other.
	blocked bool
	subject subject

	limiter *limiter
	source  *entry[subject, failures]
	user    *entry[uint64, slowness] // nil: the attempt is not counted against the user
}

// begin waits until a password of s for user may be evaluated. Its error is
// that of ctx.
func (l *limiter) begin(ctx context.Context, s subject, user string) (*permit, error) {
	p := &permit{limiter: l, subject: s}
	delay := l.hold(p, user)
	err := sleep(ctx, delay)
	if err == nil {
		err = l.reserve(ctx, p)
	}
	if err != nil {
		l.mu.Lock()
		l.release(p)
		l.mu.Unlock()
		return nil, fmt.Errorf("wait to check a password: %w", err)
	}
	return p, nil
}

// compute waits for a turn to work on a verifier; free gives it back. The error
// is that of ctx.
func (l *limiter) compute(ctx context.Context) (free func(), err error) {
	select {
	case l.cpu <- struct{}{}:
		return func() { <-l.cpu }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to check a password: %w", ctx.Err())
	}
}

// hold attaches p to the records that it is counted in, and returns how long
// it has to wait first.
func (l *limiter) hold(p *permit, user string) (delay time.Duration) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p.source = l.table(p.subject).hold(p.subject)
	delay = p.source.value.delay(l.throttle, now)
	// Others' failures must not slow a peer that has proved a key.
	if p.subject.key.IsZero() {
		p.user = l.users.hold(maphash.String(l.seed, user))
		delay = max(delay, p.user.value.delay(now))
	}
	return delay
}

// reserve counts p's attempt. While so many are being evaluated that the
// source would be over its limit if all of them failed, it waits for one of
// them: many users behind one address may log in at once.
func (l *limiter) reserve(ctx context.Context, p *permit) error {
	for {
		l.mu.Lock()
		f := &p.source.value
		ok, settled := f.reserve(l.throttle, l.now())
		p.blocked = !ok && settled == nil
		eased := f.eased(l.throttle, l.now())
		l.mu.Unlock()
		if settled == nil {
			return nil
		}
		if err := await(ctx, settled, eased); err != nil {
			return err
		}
	}
}

// await waits until done is closed, for d if that is not zero, or until ctx
// ends.
func await(ctx context.Context, done <-chan struct{}, d time.Duration) error {
	var elapsed <-chan time.Time // nil: never
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		elapsed = t.C
	}
	select {
	case <-done:
	case <-elapsed:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// outcome is what became of an attempt.
type outcome int

const (
	passed     outcome = iota // it succeeded, or was not made
	failed                    // it was refused
	unanswered                // nobody knows
)

// settle ends p: it takes the reservation back and counts the outcome.
func (p *permit) settle(o outcome) {
	l := p.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if !p.blocked {
		now := l.now()
		p.source.value.settle(l.throttle, now, o)
		if o == failed && p.user != nil {
			p.user.value.add(now)
		}
	}
	l.release(p)
}

func (l *limiter) release(p *permit) {
	l.table(p.subject).release(p.source)
	if p.user != nil {
		l.users.release(p.user)
	}
}

// tracked is how many subjects are remembered.
func (l *limiter) tracked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.v4.entries) + len(l.v6.entries) + len(l.keys.entries)
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
