package mux

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/pires/go-proxyproto"
)

// maxProxyLine is the longest version 1 header, with its CRLF.
const maxProxyLine = 107

// maxProxyData is the most that is taken after the fixed part of a version 2
// header: addresses and TLVs.
const maxProxyData = 4096

var errProxyLength = errors.New("header is too long")

// readProxyHeader takes the client's address from the PROXY header that the
// connection begins with. A LOCAL header (a health check), and one without TCP
// addresses, leave the addresses as they are.
func (c *Conn) readProxyHeader() error {
	raw, err := readProxyBytes(&c.wire)
	if err != nil {
		return err
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return err
	}
	src, dst, ok := h.TCPAddrs()
	if !ok || !h.Command.IsProxy() {
		return nil
	}
	c.srv.table.mu.Lock()
	defer c.srv.table.mu.Unlock()
	c.Remote, c.Local = addrPort(src), addrPort(dst)
	return nil
}

// readProxyBytes reads exactly one header, so that what follows is left for
// TLS. It looks at the header's length alone.
func readProxyBytes(r io.Reader) ([]byte, error) {
	const fixed = 16 // of version 2; version 1 is never shorter than 15
	b := make([]byte, len(proxyproto.SIGV2), 256)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if bytes.Equal(b, proxyproto.SIGV2) {
		b = b[:fixed]
		if _, err := io.ReadFull(r, b[len(proxyproto.SIGV2):]); err != nil {
			return nil, err
		}
		n := int(b[14])<<8 | int(b[15])
		if n > maxProxyData {
			return nil, errProxyLength
		}
		b = append(b, make([]byte, n)...)
		_, err := io.ReadFull(r, b[fixed:])
		return b, err
	}
	if !bytes.HasPrefix(b, proxyproto.SIGV1) {
		return nil, proxyproto.ErrNoProxyProtocol
	}
	for b[len(b)-1] != '\n' {
		if len(b) == maxProxyLine {
			return nil, errProxyLength
		}
		b = b[:len(b)+1]
		if _, err := io.ReadFull(r, b[len(b)-1:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}
