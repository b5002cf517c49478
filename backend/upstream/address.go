package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"
)

// address is one of a server's addresses.
type address struct {
	name    string        // as configured
	network string        // "tcp" or "unix"
	target  string        // for net.Dial
	tls     *tls.Config   // nil: connections are never secured
	recheck chan struct{} // has room for one; full: the next check is to come soon

	state // guarded by Pool.mu
}

func (p *Pool) newAddress(name string) (*address, error) {
	a := &address{name: name, network: "tcp", target: name, recheck: make(chan struct{}, 1)}
	a.since = time.Now()
	host := "localhost"
	if path, ok := strings.CutPrefix(name, "unix:"); ok {
		if path == "" {
			return nil, errors.New("the path is missing")
		}
		a.network, a.target = "unix", path
	} else {
		h, port, err := net.SplitHostPort(name)
		if err != nil || h == "" || port == "" {
			return nil, errors.New(`want "host:port" or "unix:/path"`)
		}
		host = h
	}
	if p.config.Security != Plain {
		a.tls = tlsFor(p.config.TLS, host)
	}
	return a, nil
}

// state is what is known of an address now.
type state struct {
	failure error     // why it is down; nil: it is up
	failed  time.Time // when the try began that ended with failure
	since   time.Time // when it came up or went down
	slow    bool      // it came up at since, after it was down
	well    time.Time // when a connection to it was last opened
	busy    time.Time // when it last was too busy, or doubtful
	doubt   bool      // a client's connection failed, and the next check decides
	conns   int       // of clients: open, and being opened
	opening int       // of those: being opened
	turn    uint64    // when it was last chosen, as Pool.turns
}

const (
	maxTries   = 3           // at a time, of an address that is down
	busyFor    = time.Second // that a busy address comes after the others
	leastShare = 0.05        // of an address that is back
)

// before reports whether s comes before t.
func (s *state) before(t *state, now time.Time, slowStart time.Duration) bool {
	if a, b := s.failure == nil, t.failure == nil; a != b {
		return a
	}
	if s.failure != nil {
		return s.turn < t.turn // whose last try is longest ago
	}
	if a, b := now.Sub(s.busy) < busyFor, now.Sub(t.busy) < busyFor; a != b {
		return b
	}
	if a, b := s.load(now, slowStart), t.load(now, slowStart); a != b {
		return a < b
	}
	return s.turn < t.turn
}

// load is the number of connections with one more, for the share that s can
// take.
func (s *state) load(now time.Time, slowStart time.Duration) float64 {
	share := 1.0
	if back := now.Sub(s.since); s.slow && back < slowStart {
		share = max(leastShare, float64(back)/float64(slowStart))
	}
	return float64(s.conns+1) / share
}

// closed gives back the place of a connection.
func (p *Pool) closed(a *address) {
	p.mu.Lock()
	a.conns--
	p.mu.Unlock()
}

// note notes that a connection to an address could be opened, or that it could
// not. The caller holds mu.
func (p *Pool) note(a *address, began time.Time, err error) {
	switch {
	case err == nil:
		a.well = time.Now()
		p.up(a)
	case errors.Is(err, ErrBusy):
		a.busy = time.Now()
		p.up(a)
	case ours(err):
	case began.Before(a.since): // it has come back, or gone down, meanwhile
	default:
		p.down(a, began, err)
	}
}

// up notes that an address is well. The caller holds mu.
func (p *Pool) up(a *address) {
	a.doubt = false
	if a.failure == nil {
		return
	}
	now := time.Now()
	p.config.Log.Info().Str("address", a.name).Dur("down_for", now.Sub(a.since)).Msg("server is back")
	a.failure, a.since, a.slow = nil, now, true
}

// down notes that an address is not well. The caller holds mu.
func (p *Pool) down(a *address, began time.Time, err error) {
	if a.failure == nil {
		p.config.Log.Warn().Str("address", a.name).Str("error", legible(err)).Msg("server is down")
		a.since, a.slow = time.Now(), false
		a.checkSoon()
	}
	a.failure, a.failed, a.doubt = err, began, false
}

// doubtful notes that an address that may be well turned a client away. The
// caller holds mu.
func (p *Pool) doubtful(a *address) {
	a.busy, a.doubt = time.Now(), true
	a.checkSoon()
}

func (a *address) checkSoon() {
	select {
	case a.recheck <- struct{}{}:
	default:
	}
}

// ours reports whether err is for want of something at the gateway, and so says
// nothing of the server.
func ours(err error) bool {
	for _, lack := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
	} {
		if errors.Is(err, lack) {
			return true
		}
	}
	return false
}

// tell wakes those who wait for news of an address. The caller holds mu.
func (p *Pool) tell() {
	if p.news != nil {
		close(p.news)
		p.news = nil
	}
}
