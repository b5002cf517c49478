package sites

import (
	"sync"
	"time"
)

// pace ends a transfer when the client is too slow with it. It counts only the
// time that the client is waited for: in each span of it, a number of octets has
// to move.
type pace struct {
	octets int
	span   time.Duration
	slow   func() // ends what waits

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	since  time.Time     // of the wait under way; zero: none
	waited time.Duration // in the present span
	moved  int
	over   bool
}

// stallWindow is the least time that a client gets to move something.
const stallWindow = 30 * time.Second

// newPace wants rate octets a second, looked at when at least atOnce may have
// moved.
func newPace(rate, atOnce int, slow func()) *pace {
	octets := max(rate*int(stallWindow/time.Second), atOnce)
	return &pace{octets: octets, span: time.Duration(octets) * time.Second / time.Duration(rate), slow: slow}
}

// wait begins a wait for the client.
func (p *pace) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.since = time.Now()
	if p.timer == nil {
		p.timer = time.AfterFunc(p.span, p.fire)
		return
	}
	p.timer.Reset(p.span - p.waited)
}

// got ends a wait, in which n octets have moved.
func (p *pace) got(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.since.IsZero() {
		return
	}
	p.timer.Stop()
	p.waited += time.Since(p.since)
	p.since = time.Time{}
	if p.moved += n; p.moved >= p.octets {
		p.moved, p.waited = 0, 0
	}
}

func (p *pace) fire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over && !p.since.IsZero() && p.waited+time.Since(p.since) >= p.span {
		p.over = true
		p.slow()
	}
}

// end stops the watch. When it returns, slow does not run any more.
func (p *pace) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.timer != nil {
		p.timer.Stop()
	}
}
