package admin

import (
	"net/netip"
	"sync"
	"time"

	"posthorn/sources"

	"golang.org/x/time/rate"
)

// signupLimit counts new accounts, per source and in all.
type signupLimit struct {
	rules SignupRules

	mu      sync.Mutex // guards what follows
	total   *rate.Limiter
	sources map[netip.Prefix]*rate.Limiter // those that have created something lately
}

func newSignupLimit(rules SignupRules) *signupLimit {
	l := &signupLimit{rules: rules, sources: make(map[netip.Prefix]*rate.Limiter)}
	l.total = l.limiter(rules.Total)
	return l
}

// limiter lets n pass at once, and n more within each window.
func (l *signupLimit) limiter(n int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(n)/l.rules.Window.Seconds()), n)
}

// take counts an account of a source, or returns after what time it may be
// created. What is refused does not count, so nobody who goes on asking is kept
// out by it, and no source is remembered that has created nothing.
func (l *signupLimit) take(addr netip.Addr) (after time.Duration) {
	source, now := sources.Of(addr), time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	own, known := l.sources[source]
	if !known {
		own = l.limiter(l.rules.PerSource)
	}
	if after := max(missing(own, now), missing(l.total, now)); after > 0 {
		return after
	}
	own.AllowN(now, 1)
	l.total.AllowN(now, 1)
	if !known {
		l.forget(now)
		l.sources[source] = own
	}
	return 0
}

// forget drops sources that may do again what any may, when there are more than
// can have created something within a window.
func (l *signupLimit) forget(now time.Time) {
	if len(l.sources) < 2*l.rules.Total {
		return
	}
	for source, own := range l.sources {
		if own.TokensAt(now) >= float64(l.rules.PerSource) {
			delete(l.sources, source)
		}
	}
}

// missing returns the time until a limiter lets one pass; zero: now.
func missing(l *rate.Limiter, now time.Time) time.Duration {
	lack := 1 - l.TokensAt(now)
	if lack <= 0 {
		return 0
	}
	return time.Duration(lack/float64(l.Limit())*float64(time.Second)).Truncate(time.Millisecond) + time.Millisecond
}
