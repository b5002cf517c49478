// Package tunnel lets any mail program of this machine reach a gateway that it
// could not reach, or log in at, by itself. A Tunnel listens on loopback
// addresses and Unix sockets; what comes there signs in with a local password,
// and is carried to the gateway by a client.Dialer, which has logged in with its
// own key.
//
// The local password keeps the machine's other users out. The gateway never
// hears it, and programs here never see the key.
package tunnel

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"posthorn/alpn"
	"posthorn/client"
)

// Config says what a Tunnel is like. Client alone is required.
type Config struct {
	// Client is how the gateway is reached, and who logs in there. A DialContext
	// in it is watched for dead connections, as the default one is.
	Client client.Config
	// Password is what local programs sign in with over TCP; nil: any is taken.
	// Over a Unix socket the kernel says who they are.
	Password *Password
	// MaxConns bounds local connections; default 256. MaxWaiting bounds those of
	// them that have not signed in; the oldest makes place for the next; default
	// 32.
	MaxConns, MaxWaiting int
	// SignInTime is how long a connection may take to sign in; default 2 min.
	SignInTime time.Duration
	// DialTime bounds the search for a route, and the login; default 1 min.
	DialTime time.Duration
	// Grace is how long connections may take to end once Run's context has;
	// default 5 s.
	Grace time.Duration
	// Changed is called, one call at a time, when it changes by which route the
	// gateway is reached, or whether it is; nil: nobody is told.
	Changed func(State)
	// Network names the network that this machine is in; default client.Network.
	Network func() string
	// Watch is how often the network and the clock are looked at; default 5 s.
	Watch time.Duration
	// Log hears of connections at debug, and of what is suspicious at warn.
	Log zerolog.Logger
}

// Tunnel carries local connections to a gateway.
type Tunnel struct {
	config  Config
	dialer  *client.Dialer
	sockets *sockets
	reach   reach
	guesses *rate.Limiter // of the answers to wrong passwords

	work sync.WaitGroup

	mu      sync.Mutex // guards what follows
	open    map[*conn]struct{}
	waiting []*conn // those that have not signed in, oldest first
}

// New returns a Tunnel. Its error is client.ErrConfig.
func New(c Config) (*Tunnel, error) {
	c.MaxConns = cmp.Or(c.MaxConns, 256)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, 32)
	c.SignInTime = cmp.Or(c.SignInTime, 2*time.Minute)
	c.DialTime = cmp.Or(c.DialTime, time.Minute)
	c.Grace = cmp.Or(c.Grace, 5*time.Second)
	c.Watch = cmp.Or(c.Watch, 5*time.Second)
	if c.Network == nil {
		c.Network = client.Network
	}
	t := &Tunnel{
		config: c, open: make(map[*conn]struct{}), guesses: rate.NewLimiter(2, 10),
		sockets: newSockets(c.Client.DialContext),
	}
	c.Client.DialContext = t.sockets.dialContext
	var err error
	if t.dialer, err = client.New(c.Client); err != nil {
		return nil, err
	}
	t.reach.tunnel = t
	return t, nil
}

// Causes of the end of a connection.
var (
	errEnding  = errors.New("the tunnel is ending")
	errCrowded = errors.New("too many connections that have not signed in")
	errFull    = errors.New("too many connections")
	errSlow    = errors.New("signing in took too long")
)

// Run carries the connections of listeners until ctx ends; then it says goodbye to
// them, closes what takes longer than Grace, and returns nil. It closes the
// listeners. Its error is that of a listener that failed.
func (t *Tunnel) Run(ctx context.Context, listeners ...*Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var loops sync.WaitGroup
	for _, l := range listeners {
		loops.Go(func() {
			if err := t.accept(ctx, l); err != nil {
				cancel(err)
			}
		})
	}
	loops.Go(func() { t.watch(ctx) })
	<-ctx.Done()
	for _, l := range listeners {
		l.Close()
	}
	loops.Wait()
	grace := time.AfterFunc(t.config.Grace, t.closeAll)
	t.work.Wait()
	grace.Stop()
	if err := context.Cause(ctx); !errors.Is(err, ctx.Err()) {
		return err
	}
	return nil
}

// accept serves the connections of a listener. A failure that passes by itself,
// such as a lack of descriptors, is waited for.
func (t *Tunnel) accept(ctx context.Context, l *Listener) error {
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case err == nil:
			pause = 0
			t.work.Go(func() { t.serve(ctx, l, nc) })
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			t.config.Log.Warn().Err(err).Stringer("address", l.Addr()).Msg("cannot accept")
			sleep(ctx, pause)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// closeAll cuts off whatever is still there.
func (t *Tunnel) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		c.Close()
		c.hang()
	}
}

// enter counts a connection among those that have not signed in. It returns false
// when there are too many of all.
func (t *Tunnel) enter(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) >= t.config.MaxConns {
		return false
	}
	t.open[c] = struct{}{}
	if !c.trusted {
		if len(t.waiting) >= t.config.MaxWaiting {
			t.waiting[0].cancel(errCrowded)
			t.forget(t.waiting[0])
		}
		t.waiting = append(t.waiting, c)
	}
	return true
}

// signedIn counts it among the others.
func (t *Tunnel) signedIn(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(c)
}

func (t *Tunnel) leave(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(c)
	delete(t.open, c)
}

// forget takes c off waiting. The caller holds mu.
func (t *Tunnel) forget(c *conn) {
	t.waiting = slices.DeleteFunc(t.waiting, func(w *conn) bool { return w == c })
}

// session dials and logs in for a connection.
func (t *Tunnel) session(ctx context.Context, p alpn.Protocol) (*client.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, t.config.DialTime)
	defer cancel()
	s, err := t.dialer.Session(ctx, p)
	t.reach.note(ctx, p, s, err)
	return s, err
}
