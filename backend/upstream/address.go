package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"
)

// address is one of a server's addresses.
type address struct {
	name    string        // as configured
	network string        // "tcp" or "unix"
	target  string        // for net.Dial
	tls     *tls.Config   // nil: connections are never secured
	downed  chan struct{} // has room for one; full: look soon whether it is back

	state // guarded by Pool.mu
}

func (p *Pool) newAddress(name string) (*address, error) {
	a := &address{name: name, network: "tcp", target: name, downed: make(chan struct{}, 1)}
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
	since   time.Time // when it came up or went down
	slow    bool      // it came up at since, after it was down
	well    time.Time // when a connection to it was last opened
	busy    time.Time // when it last was too busy
	conns   int       // of clients: open, and being opened
	opening int       // of those: being opened
	turn    uint64    // when it was last chosen, as Pool.turns
}

const (
	maxTries   = 3           // at a time, of an address that is down
	busyFor    = time.Second // that a busy address comes after the others
	leastShare = 0.05        // of an address that is back
)

// choose takes a place at the address that is next among those that are up, or
// among those that are down. Addresses that were tried already are left out.
// Nil: there is none.
func (p *Pool) choose(down bool, tried map[*address]bool) *address {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var best *address
	for _, a := range p.addresses {
		if tried[a] || down != (a.failure != nil) || down && a.opening >= maxTries {
			continue
		}
		if best == nil || a.before(&best.state, now, p.config.SlowStart) {
			best = a
		}
	}
	if best != nil {
		p.turns++
		best.turn = p.turns
		best.conns++
		best.opening++
	}
	return best
}

// before reports whether s comes before t, where both are up or both are down.
func (s *state) before(t *state, now time.Time, slowStart time.Duration) bool {
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

// opened says that a place is no longer waiting for its connection; without one
// it is given back.
func (p *Pool) opened(a *address, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.opening--
	if !ok {
		a.conns--
	}
}

// closed gives back the place of a connection.
func (p *Pool) closed(a *address) {
	p.mu.Lock()
	a.conns--
	p.mu.Unlock()
}

// note notes that a connection to an address could be opened, or that it could
// not.
func (p *Pool) note(a *address, began time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		a.well = now
		p.up(a, now)
	case errors.Is(err, ErrBusy):
		a.busy = now
		p.up(a, now)
	case began.Before(a.since): // it has come back, or gone down, meanwhile
	case a.failure != nil:
		a.failure = err
	default:
		p.config.Log.Warn().Str("address", a.name).Str("error", legible(err)).Msg("server is down")
		a.failure, a.since, a.slow = err, now, false
		select {
		case a.downed <- struct{}{}:
		default:
		}
	}
}

// up notes that an address is well. The caller holds mu.
func (p *Pool) up(a *address, now time.Time) {
	if a.failure == nil {
		return
	}
	p.config.Log.Info().Str("address", a.name).Dur("down_for", now.Sub(a.since)).Msg("server is back")
	a.failure, a.since, a.slow = nil, now, true
}
