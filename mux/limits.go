package mux

import (
	"cmp"
	"time"
)

// Limits bound what strangers can take. Zero fields take the defaults.
type Limits struct {
	Handshake time.Duration // from accept to the end of the TLS handshake; default 10 s. The ClientHello has three quarters of it
	PreLogin  time.Duration // from accept to login, or to the HTTP handler; default 60 s
	Idle      time.Duration // without a byte from the client after login; default 35 min
	DeadPeer  time.Duration // until a client that has vanished is let go; default 3 min
	MinRate   int           // bytes a second a client must take or send while data waits; default 100

	Conns           int // in all; default 20000. More hear Handler.Busy, twice as many hear nothing
	ConnsPerSource  int // per IPv4 address or IPv6 /64; default 500; more as above
	ConnsPerAccount int // default 200
	// Connections without a login: from Start on one is closed at random for a
	// new one, with a probability that grows to certainty at Full. Those of the
	// sources that hold most go first, the oldest of them. Defaults 4000, 8000.
	UnauthStart, UnauthFull int
	// UnauthPerSource bounds the connections of a source that are before login
	// in a mail protocol, or before the handler in any; the oldest one is closed
	// for a new one. Default 100.
	UnauthPerSource int
}

// stallWindow is the time over which Limits.MinRate is measured.
const stallWindow = 30 * time.Second

func (l Limits) withDefaults() *Limits {
	full := &Limits{
		Handshake:       cmp.Or(l.Handshake, 10*time.Second),
		PreLogin:        cmp.Or(l.PreLogin, 60*time.Second),
		Idle:            cmp.Or(l.Idle, 35*time.Minute),
		DeadPeer:        cmp.Or(l.DeadPeer, 3*time.Minute),
		MinRate:         cmp.Or(l.MinRate, 100),
		Conns:           cmp.Or(l.Conns, 20000),
		ConnsPerSource:  cmp.Or(l.ConnsPerSource, 500),
		ConnsPerAccount: cmp.Or(l.ConnsPerAccount, 200),
		UnauthStart:     cmp.Or(l.UnauthStart, 4000),
		UnauthFull:      cmp.Or(l.UnauthFull, 8000),
		UnauthPerSource: cmp.Or(l.UnauthPerSource, 100),
	}
	full.UnauthFull = max(full.UnauthFull, full.UnauthStart+1)
	return full
}

// stalled reports whether n bytes in a stallWindow are too few.
func (l *Limits) stalled(n int64) bool {
	return n < int64(l.MinRate)*int64(stallWindow/time.Second)
}
