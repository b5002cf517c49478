package client_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"posthorn/alpn"
	"posthorn/certs/ech"
	"posthorn/client"
	"posthorn/client/clienttest"
)

// resolver is a DNS server that knows one HTTPS record.
type resolver struct {
	address string
	queries atomic.Int32
}

// dnsServer answers questions for host with a list; nil: there is no record.
func dnsServer(t *testing.T, list []byte) *resolver {
	t.Helper()
	pc := must(net.ListenPacket("udp", "127.0.0.1:0"))
	r := &resolver{address: pc.LocalAddr().String()}
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r.queries.Add(1)
		m := new(dns.Msg).SetReply(q)
		if list != nil && q.Question[0].Qtype == dns.TypeHTTPS && q.Question[0].Name == host+"." {
			alias := &dns.HTTPS{SVCB: dns.SVCB{Hdr: dns.RR_Header{Name: host + ".", Rrtype: dns.TypeHTTPS, Class: dns.ClassINET, Ttl: 60}, Priority: 2, Target: "."}}
			rr := &dns.HTTPS{SVCB: dns.SVCB{Hdr: alias.Hdr, Priority: 1, Target: ".", Value: []dns.SVCBKeyValue{&dns.SVCBECHConfig{ECH: list}}}}
			m.Answer = []dns.RR{alias, rr}
		}
		_ = w.WriteMsg(m)
	})
	started := make(chan struct{})
	s := &dns.Server{PacketConn: pc, Handler: answer, NotifyStartedFunc: func() { close(started) }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.ActivateAndServe()
	}()
	<-started
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-done
	})
	return r
}

// TestECHLookup: the configuration is found where it is, and a stale one is
// replaced by what the gateway says.
func TestECHLookup(t *testing.T) {
	g := start(t)
	stale := ech.List(must(ech.Generate(9, publicName, 40)))
	broken := clienttest.Rules{Names: map[string]clienttest.Verdict{host: clienttest.BlackHole}}
	tests := map[string]struct {
		dns     []byte
		origin  bool
		given   []byte
		network clienttest.Rules
		want    client.Class
	}{
		"in the DNS":           {dns: ech.List(g.ECH), network: broken},
		"stale in the DNS":     {dns: stale, network: broken},
		"at the gateway":       {origin: true},
		"given":                {given: ech.List(g.ECH), network: broken},
		"given, stale":         {given: stale, network: broken},
		"nowhere":              {want: client.NoECH},
		"malformed":            {given: []byte{1, 2, 3}, want: client.Protocol},
		"out of reach in time": {origin: true, network: broken, want: client.Silence},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g.TellsECH.Store(tt.origin)
			n := g.network(tt.network)
			d := g.dialer(n, only(client.ECH), func(c *client.Config) {
				c.ECHConfigList, c.Resolver, c.Timeout = tt.given, dnsServer(t, tt.dns).address, 2*time.Second
			})
			c, err := d.Dial(within(t, 20*time.Second), alpn.IMAP)
			if err == nil {
				if !c.ConnectionState().ECHAccepted {
					t.Error("ECH was not accepted")
				}
				c.Close()
			}
			checkRoute(t, name, err, want{class: tt.want})
			for _, s := range n.Seen() {
				if tt.want == "" && !tt.origin && (s.ServerName != publicName || !s.ECH) {
					t.Errorf("observers see %+v", s)
				}
			}
		})
	}
}
