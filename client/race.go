package client

import (
	"context"
	"sync"
	"time"
)

// outcome is what became of an attempt.
type outcome struct {
	conn   *Conn
	failed *RouteError
}

// race tries routes: each begins when the one before has failed or, unless they
// go in order, has had a head start. It returns the first connection that is
// greeted, and why those failed that did until then. When it returns, the others
// are closed. A nil connection has failed on every route, or ctx is done.
func (d *Dialer) race(ctx context.Context, routes []Route) (*Conn, []*RouteError) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	t := newTurn()
	outcomes := make(chan outcome, len(routes))
	started, over := 0, 0
	start := func() {
		if started == len(routes) || ctx.Err() != nil {
			return
		}
		r := routes[started]
		started++
		running.Go(func() {
			c, failed := d.try(ctx, r, t)
			outcomes <- outcome{c, failed}
		})
	}
	var failed []*RouteError
	for start(); over < started; {
		var impatient <-chan time.Time
		if !d.config.InOrder && started < len(routes) {
			impatient = time.After(d.config.Stagger)
		}
		select {
		case o := <-outcomes:
			if o.conn != nil {
				return o.conn, failed
			}
			over++
			failed = append(failed, o.failed)
		case <-impatient:
		}
		start()
	}
	return nil, failed
}
