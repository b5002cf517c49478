package tunnel

import (
	"context"
	"time"
)

const (
	// suspended is how far the wall clock may get ahead of the monotonic one, which
	// stands still while the machine sleeps, until that counts as sleep.
	suspended = 10 * time.Second
	// settle is how long a network that has just come is left alone, as addresses
	// and names come one after the other.
	settle = 2 * time.Second
	// retryFirst and retryLast bound how long it takes until a gateway that was out
	// of reach is tried again; each time it is twice as long, until it is reached.
	retryFirst, retryLast = 15 * time.Second, 10 * time.Minute
)

// watch finds out how the gateway is reached, at first, when the machine comes to
// another network or out of sleep, and from time to time while it is not.
func (t *Tunnel) watch(ctx context.Context) {
	network, last := t.config.Network(), time.Now()
	t.reach.check(ctx)
	tick := time.NewTicker(t.config.Watch)
	defer tick.Stop()
	retry := retryFirst
	checked := last
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		t.sockets.calm()
		now := time.Now()
		slept := now.Round(0).Sub(last.Round(0)) - now.Sub(last) // Round takes the monotonic clock away
		last = now
		current := t.config.Network()
		switch {
		case current != network || slept > suspended:
			t.config.Log.Debug().Bool("network", current != network).Dur("slept", slept).Msg("looking anew for a route")
			network, retry = current, retryFirst
			t.sockets.doubt()
			sleep(ctx, settle)
		case !t.reach.lost():
			retry = retryFirst
			continue
		case now.Sub(checked) < retry:
			continue
		default:
			retry = min(2*retry, retryLast)
		}
		t.reach.check(ctx)
		checked = time.Now()
	}
}
