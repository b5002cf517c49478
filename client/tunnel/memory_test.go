package tunnel_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/client"
	"posthorn/client/clienttest"
	"posthorn/client/tunnel"
	"posthorn/mux/muxtest"
)

// inMemory is a tunnel in memory, before a gateway of the test's, for tests on a
// clock that only waiting moves.
type inMemory struct {
	t        *testing.T
	local    map[alpn.Protocol]*clienttest.Pipes
	password string
	log      *muxtest.Log
	dials    atomic.Int32 // of the gateway
	away     atomic.Bool  // it cannot be reached
	end      func()       // ends the tunnel, and waits
}

// startInMemory runs a tunnel in a bubble of synctest, whose first look is over
// when it returns. The gateway greets, and logs the key in; then handle has the
// connection until it returns.
func startInMemory(t *testing.T, handle func(*tls.Conn), edit ...option) *inMemory {
	t.Helper()
	ca := clienttest.NewAuthority(t, "CA")
	served := &tls.Config{Certificates: []tls.Certificate{ca.Issue(host)}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"imap", "smtp"}}
	m := &inMemory{t: t, local: map[alpn.Protocol]*clienttest.Pipes{alpn.IMAP: clienttest.NewPipes(), alpn.SMTP: clienttest.NewPipes()}, log: new(muxtest.Log)}
	var hash *tunnel.Password
	m.password, hash = tunnel.NewPassword()
	var work sync.WaitGroup
	t.Cleanup(work.Wait)
	config := tunnel.Config{
		Client: client.Config{
			Host: host, Identity: must(client.NewIdentity(client.ECDSA, "x")), RootCAs: clienttest.Pool(ca),
			Proxy: client.FixedProxy(nil), Routes: []client.Kind{client.ALPN},
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				m.dials.Add(1)
				if m.away.Load() {
					return nil, net.ErrClosed
				}
				here, there := net.Pipe()
				work.Go(func() { greet(tls.Server(there, served), handle) })
				return here, nil
			},
		},
		Password: hash, Network: func() string { return "test" }, Log: zerolog.New(m.log),
	}
	for _, e := range edit {
		e(&config)
	}
	tun := must(tunnel.New(config))
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- tun.Run(ctx, &tunnel.Listener{Listener: m.local[alpn.IMAP], Protocol: alpn.IMAP},
			&tunnel.Listener{Listener: m.local[alpn.SMTP], Protocol: alpn.SMTP})
	}()
	m.end = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(m.end)
	synctest.Wait()
	return m
}

// greet serves a connection of the tunnel's to the gateway.
func greet(c *tls.Conn, handle func(*tls.Conn)) {
	defer c.Close()
	if c.Handshake() != nil {
		return
	}
	if c.ConnectionState().NegotiatedProtocol == "smtp" {
		_, _ = c.Write([]byte("220 x\r\n"))
		_, _ = c.Read(make([]byte, 100))
		_, _ = c.Write([]byte("250 x\r\n"))
	} else {
		_, _ = c.Write([]byte("* PREAUTH [CAPABILITY IMAP4rev1 IDLE] x\r\n"))
	}
	handle(c)
}

// dial is a program that comes.
func (m *inMemory) dial(p alpn.Protocol) *program {
	m.t.Helper()
	here, err := m.local[p].DialContext(m.t.Context(), "", "")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { here.Close() })
	return &program{here, m.t, bufio.NewReader(here)}
}
