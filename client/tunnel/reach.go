package tunnel

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"posthorn/alpn"
	"posthorn/client"
)

// State is whether, and how, a protocol of the gateway is reached.
type State struct {
	Protocol alpn.Protocol
	// Route is the one in use; nil: none leads there, and Err says why.
	Route *client.Route
	Err   error
}

// reach is what is known about the way to the gateway.
type reach struct {
	tunnel *Tunnel
	turn   sync.Mutex // of checks

	telling sync.Mutex // held while Changed runs, and by who decides whether it does
	mu      sync.Mutex // guards what follows
	known   map[alpn.Protocol]*knowledge
}

// knowledge is that about one protocol.
type knowledge struct {
	state  State
	what   string // state in short, to see whether it has changed
	offers []string
	at     time.Time
}

// note learns from an attempt to log in. One that was given up teaches nothing.
func (r *reach) note(ctx context.Context, p alpn.Protocol, s *client.Session, err error) {
	if err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	r.mu.Lock()
	old := r.known[p]
	k := &knowledge{state: State{Protocol: p, Err: err}, at: time.Now()}
	if old != nil {
		k.offers = old.offers
	}
	if err == nil {
		route := s.Route
		k.state.Route, k.what, k.offers = &route, route.String(), s.Offers
	} else {
		k.what = kindOf(err)
	}
	if r.known == nil {
		r.known = make(map[alpn.Protocol]*knowledge)
	}
	r.known[p] = k
	r.mu.Unlock()
	if changed := r.tunnel.config.Changed; changed != nil && (old == nil || old.what != k.what) {
		changed(k.state)
	}
}

// kindOf is an error without what differs from time to time.
func kindOf(err error) string {
	var none *client.DialError
	if !errors.As(err, &none) {
		return "! " + err.Error()
	}
	what := []string{}
	for _, e := range none.Routes {
		what = append(what, string(e.Route.Kind)+" "+string(e.Class))
	}
	slices.Sort(what)
	all := "!"
	for _, w := range what {
		all += " " + w
	}
	return all
}

// last returns what is known about a protocol; nil: nothing.
func (r *reach) last(p alpn.Protocol) *knowledge {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[p]
}

// offers returns what a protocol of the gateway offers, as it said last; if it has
// never said anything, it is asked. However many want to know, one asks.
func (r *reach) offers(ctx context.Context, p alpn.Protocol) ([]string, error) {
	if k := r.last(p); k != nil && k.offers != nil {
		return k.offers, nil
	}
	asked := time.Now()
	r.turn.Lock()
	defer r.turn.Unlock()
	k := r.last(p)
	if k == nil || k.offers == nil && k.at.Before(asked) {
		r.ask(ctx, p)
		k = r.last(p)
	}
	switch {
	case k == nil:
		return nil, context.Cause(ctx)
	case k.offers == nil:
		return nil, k.state.Err
	}
	return k.offers, nil
}

// check finds out by which routes the gateway is reached now.
func (r *reach) check(ctx context.Context) {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.ask(ctx, alpn.IMAP, alpn.SMTP)
}

// ask logs in, and out. The caller has the turn.
func (r *reach) ask(ctx context.Context, protocols ...alpn.Protocol) {
	var all sync.WaitGroup
	for _, p := range protocols {
		all.Go(func() {
			s, err := r.tunnel.session(ctx, p)
			if err != nil {
				return
			}
			farewell := "Q LOGOUT\r\n"
			if p == alpn.SMTP {
				farewell = "QUIT\r\n"
			}
			_ = s.SetDeadline(time.Now().Add(time.Second))
			_, _ = s.Write([]byte(farewell))
			s.Close()
		})
	}
	all.Wait()
}

// lost reports whether a protocol was out of reach when it was tried last.
func (r *reach) lost() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.known {
		if k.state.Err != nil {
			return true
		}
	}
	return false
}
