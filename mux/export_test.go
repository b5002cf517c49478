package mux

import (
	"bytes"
	"time"
)

// ReadProxyBytes is for the fuzz test.
var ReadProxyBytes = readProxyBytes

// For the test of what trim relies on.
var (
	TrimFields  = trimFields
	OtherFields = []uintptr{offsetOf[bytes.Buffer]("noSuchField"), offsetOf[int]("rawInput")}
)

// PassSilently has d pass for a parked connection, in which its client says
// nothing, and sweeps: what is parked is a socket, and cannot be in a synctest
// bubble.
func (c *Conn) PassSilently(d time.Duration) {
	t := &c.wire
	t.mu.Lock()
	t.until -= int64(d)
	t.mu.Unlock()
	t.heard.Add(-int64(d))
	c.srv.sweep()
}
