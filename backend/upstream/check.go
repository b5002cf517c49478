package upstream

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Run checks the addresses' health until ctx ends. An address that has served
// clients lately needs no check.
func (p *Pool) Run(ctx context.Context) error {
	var checks sync.WaitGroup
	for _, a := range p.addresses {
		checks.Go(func() { p.watch(ctx, a) })
	}
	checks.Wait()
	return nil
}

// soon is when an address is looked at that has just gone down, which may have
// been no more than a hiccup, or that is in doubt.
const soon = time.Second

// watch checks one address: at once, then in intervals, and soon when there
// is a reason.
func (p *Pool) watch(ctx context.Context, a *address) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.recheck:
			next.Reset(jitter(min(soon, p.config.CheckInterval)))
			continue
		case <-next.C:
		}
		next.Reset(jitter(p.config.CheckInterval))
		if !p.servedLately(a) {
			p.check(ctx, a)
		}
	}
}

// jitter spreads what would else come from all gateways and addresses at a
// time.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

func (p *Pool) servedLately(a *address) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return a.failure == nil && !a.doubt && time.Since(a.well) < p.config.CheckInterval/2
}

// check opens a connection of the gateway's own, and says goodbye on it.
func (p *Pool) check(ctx context.Context, a *address) {
	began := time.Now()
	c, err := p.open(ctx, a, p.local)
	if err != nil && ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	p.note(a, began, err)
	p.tell()
	p.mu.Unlock()
	if err != nil {
		return
	}
	if p.config.Quit != nil {
		_ = c.Within(ctx, p.config.Timeout, func() error { p.config.Quit(c); return nil })
	}
	_ = c.Close()
}
