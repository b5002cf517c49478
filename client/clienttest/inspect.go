package clienttest

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
)

// Inspector is a middlebox that ends TLS, reads, and makes TLS of its own to the
// gateway, whose certificate it does not even look at. It offers the gateway what
// the client offers, so it carries HTTP/1.1, HTTP/2 and mail alike.
type Inspector struct {
	CA *Authority

	mu   sync.Mutex
	read bytes.Buffer // guarded by mu
}

// Read returns everything that the inspector has read, of both directions.
func (i *Inspector) Read() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return bytes.Clone(i.read.Bytes())
}

// Write keeps what is read.
func (i *Inspector) Write(b []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.read.Write(b)
}

// inspect ends the client's TLS and carries what is inside.
func (n *Network) inspect(client, gateway net.Conn, h *Hello, i *Inspector) {
	out := tls.Client(gateway, &tls.Config{ServerName: h.ServerName, NextProtos: h.ALPN, InsecureSkipVerify: true})
	if out.HandshakeContext(n.ctx) != nil {
		abort(client)
		return
	}
	config := &tls.Config{Certificates: []tls.Certificate{i.CA.Issue(h.ServerName)}}
	if p := out.ConnectionState().NegotiatedProtocol; p != "" {
		config.NextProtos = []string{p}
	}
	in := tls.Server(client, config)
	if in.HandshakeContext(n.ctx) != nil {
		return
	}
	there := make(chan struct{})
	go func() {
		defer close(there)
		_, _ = io.Copy(io.MultiWriter(out, i), in)
		_ = out.CloseWrite()
	}()
	_, _ = io.Copy(io.MultiWriter(in, i), out)
	_ = in.CloseWrite()
	client.Close()
	gateway.Close()
	<-there
}
