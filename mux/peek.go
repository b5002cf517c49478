package mux

import (
	"bytes"
	"crypto/tls"
	"io"
)

// Peek waits for the client's first octets after the handshake and returns those
// of their record, without taking them: whoever reads next gets them. It is for
// connections whose *tls.Conn goes to a library, which could not be given them
// otherwise. nil: there are none, or crypto/tls is not as trim.go knows it.
func (c *Conn) Peek() []byte {
	tc, ok := c.Conn.(*tls.Conn)
	if !ok || fieldInput == 0 {
		return nil
	}
	var first [1]byte
	if n, err := tc.Read(first[:]); n == 0 || err != nil {
		return nil
	}
	input := fieldOf[bytes.Reader](tc, fieldInput)
	if _, err := input.Seek(-1, io.SeekCurrent); err != nil {
		return nil
	}
	record := make([]byte, input.Len())
	n, _ := input.Read(record)
	_, _ = input.Seek(int64(-n), io.SeekCurrent) // it has just come from there
	return record[:n]
}
