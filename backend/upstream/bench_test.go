package upstream_test

import (
	"context"
	"crypto/tls"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"posthorn/backend/upstream"
)

// BenchmarkDial measures how long, and at what cost on both sides, it takes to
// be ready for a login.
func BenchmarkDial(b *testing.B) {
	cert, pin := newAuthority(b).issue(time.Now().Add(time.Hour), "localhost")
	pinned := func() *tls.Config { return trusting(b, "", []string{pin}, "") }
	full := pinned()
	full.SessionTicketsDisabled = true
	header := upstream.Header{
		Remote: netip.MustParseAddrPort("192.0.2.1:1234"), Local: netip.MustParseAddrPort("198.51.100.2:443"),
		TLS: tls13, ServerName: "imap.example.org",
	}
	plain, secure := serve(b, says(greeting)), serve(b, secured(cert, says(greeting)))
	for name, c := range map[string]upstream.Config{
		"plain":   {Addresses: []string{plain.address}},
		"three":   {Addresses: []string{plain.address, serve(b, says(greeting)).address, serve(b, says(greeting)).address}},
		"proxy":   {Addresses: []string{plain.address}, ProxyProtocol: true},
		"tls":     {Addresses: []string{secure.address}, Security: upstream.ImplicitTLS, TLS: full},
		"resumed": {Addresses: []string{secure.address}, Security: upstream.ImplicitTLS, TLS: pinned()},
	} {
		b.Run(name, func(b *testing.B) {
			p := newPool(b, c)
			b.ReportAllocs()
			for b.Loop() {
				c, err := p.Dial(context.Background(), header)
				if err != nil {
					b.Fatal(err)
				}
				_ = c.Close()
			}
		})
	}
}

// BenchmarkIdleConn measures what a connection holds once it is detached.
func BenchmarkIdleConn(b *testing.B) {
	const n = 1000
	s := serve(b, says(greeting))
	for b.Loop() {
		p := newPool(b, upstream.Config{Addresses: []string{s.address}})
		conns := make([]*upstream.Conn, 0, n)
		before := heap()
		for range n {
			c := dial(b, p, upstream.Header{})
			c.Detach()
			conns = append(conns, c)
		}
		b.ReportMetric(float64(heap()-before)/n, "B/conn")
		for _, c := range conns {
			_ = c.Close()
		}
	}
}

// heap is what is in use on the heap, of the servers in this process too.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
