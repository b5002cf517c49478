package mux

import (
	"github.com/prometheus/client_golang/prometheus"

	"posthorn/alpn"
)

// metrics counts what happens, and looks the rest up in the table when it is
// asked.
type metrics struct {
	srv        *Server
	handshakes *prometheus.CounterVec
	logins     *prometheus.CounterVec
	drops      *prometheus.CounterVec
	live       *prometheus.Desc
	bytes      *prometheus.Desc
	in, out    uint64 // of connections that are gone; guarded by srv.table.mu
}

func (m *metrics) init(s *Server) {
	m.srv = s
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "posthorn", Name: name, Help: help,
		}, labels)
	}
	m.handshakes = counter("handshakes_total", "TLS handshakes by result.", "result")
	m.logins = counter("logins_total", "Logins by mechanism and result.", "mechanism", "result")
	m.drops = counter("connections_dropped_total",
		"Connections closed without an answer, or to make room, by the limit that was reached.", "reason")
	m.live = prometheus.NewDesc("posthorn_connections", "Live connections by protocol and state.",
		[]string{"protocol", "state"}, nil)
	m.bytes = prometheus.NewDesc("posthorn_bytes_total", "Bytes exchanged with clients, below TLS.",
		[]string{"direction"}, nil)
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.handshakes, m.logins, m.drops, m}
}

func (m *metrics) handshake(result string) { m.handshakes.WithLabelValues(result).Inc() }

func (m *metrics) dropped(reason error) { m.drops.WithLabelValues(reason.Error()).Inc() }

// login counts a login. Peers choose the names of mechanisms, so that those
// which are not known share a label.
func (m *metrics) login(mechanism, result string) {
	switch mechanism {
	case "PREAUTH", "EXTERNAL", "PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS":
	default:
		mechanism = "other"
	}
	m.logins.WithLabelValues(mechanism, result).Inc()
}

// gone keeps the bytes of a connection that leaves the table. The caller holds
// the table's mu.
func (m *metrics) gone(c *Conn) {
	if c.via != nil {
		return // they were the other's
	}
	m.in += c.wire.in.Load()
	m.out += c.wire.out.Load()
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.live
	ch <- m.bytes
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	type key struct {
		protocol alpn.Protocol
		state    string
	}
	live := map[key]int{}
	t := &m.srv.table
	t.mu.Lock()
	in, out := m.in, m.out
	for _, c := range t.conns {
		live[key{c.Protocol, c.state()}]++
		if c.via != nil {
			continue
		}
		in += c.wire.in.Load()
		out += c.wire.out.Load()
	}
	t.mu.Unlock()
	for k, n := range live {
		ch <- prometheus.MustNewConstMetric(m.live, prometheus.GaugeValue, float64(n), string(k.protocol), k.state)
	}
	ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.CounterValue, float64(in), "in")
	ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.CounterValue, float64(out), "out")
}

// state is what a connection is at, for the metric. The caller holds the
// table's mu.
func (c *Conn) state() string {
	switch {
	case c.identity.Account != "":
		return "authenticated"
	case c.handled:
		return "unauthenticated"
	}
	return "handshake"
}
