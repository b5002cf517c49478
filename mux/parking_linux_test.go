package mux_test

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"posthorn/alpn"
	"posthorn/mux"
)

// starved is a handler that wants to park when there are no descriptors, and
// then again.
type starved struct{ t *testing.T }

func (starved) Busy() []byte { return nil }

func (h starved) ServeConn(_ context.Context, c *mux.Conn) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		h.t.Error(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max}); err != nil {
		h.t.Error(err)
	}
	lot, _ := c.Parking(func() {})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		h.t.Error(err)
	}
	if lot != nil {
		h.t.Error("it parks without a descriptor for that")
	}
	if lot, _ := c.Parking(func() {}); lot == nil {
		h.t.Error("it does not park any more")
	}
}

// Who cannot park as descriptors have run out does without; others can, later.
func TestParkingAfterStarving(t *testing.T) {
	b := start(t, func(c *mux.Config) {
		c.Handlers = map[alpn.Protocol]mux.Handler{alpn.IMAP: starved{t}}
	})
	connect(t, b.listen(alpn.Shared), clientConfig("imap")).wantEnd()
}
