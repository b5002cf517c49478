package clienttest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
)

// Hello is what an observer sees of a connection's beginning.
type Hello struct {
	TLS        bool
	ServerName string
	ALPN       []string
	ECH        bool
}

// extensionECH is encrypted_client_hello (RFC 9849 section 11.1).
const extensionECH = 0xfe0d

var errSeen = errors.New("seen")

// readHello reads a ClientHello, and returns with it all that was read. What is
// none of TLS is seen by its first octet.
func readHello(c net.Conn) (*Hello, []byte, error) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return nil, nil, err
	}
	if first[0] != 22 { // handshake (RFC 8446 section 5.1)
		return &Hello{}, first, nil
	}
	var h *Hello
	read := bytes.NewBuffer(first)
	o := &observed{Conn: c, in: io.MultiReader(bytes.NewReader(first), io.TeeReader(c, read))}
	err := tls.Server(o, &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		h = &Hello{
			TLS: true, ServerName: i.ServerName, ALPN: slices.Clone(i.SupportedProtos),
			ECH: slices.Contains(i.Extensions, extensionECH),
		}
		return nil, errSeen
	}}).Handshake()
	if h == nil {
		return nil, nil, err
	}
	return h, read.Bytes(), nil
}

// observed is a connection that is only listened to.
type observed struct {
	net.Conn
	in io.Reader
}

func (o *observed) Read(b []byte) (int, error)  { return o.in.Read(b) }
func (o *observed) Write(b []byte) (int, error) { return len(b), nil }

// replayed is a connection whose beginning was read already.
type replayed struct {
	net.Conn
	early []byte
}

func (r *replayed) Read(b []byte) (int, error) {
	if len(r.early) > 0 {
		n := copy(b, r.early)
		r.early = r.early[n:]
		return n, nil
	}
	return r.Conn.Read(b)
}
