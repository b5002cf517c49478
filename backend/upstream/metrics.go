package upstream

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what happens, and looks the rest up in the pool when it is
// asked. Backend and service are the same in all of a pool's, so that those of
// several pools go together.
type metrics struct {
	pool  *Pool
	dials *prometheus.CounterVec
	took  *prometheus.HistogramVec
	up    *prometheus.Desc
	conns *prometheus.Desc
}

func newMetrics(p *Pool) *metrics {
	whose := prometheus.Labels{"backend": p.config.Backend, "service": p.config.Service}
	m := &metrics{
		pool: p,
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "posthorn", Subsystem: "backend", Name: "dials_total", ConstLabels: whose,
			Help: "Connections opened to servers behind the gateway, for clients, by result.",
		}, []string{"address", "result"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "posthorn", Subsystem: "backend", Name: "dial_seconds", ConstLabels: whose,
			Help:    "Time until a server behind the gateway was ready for a login.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"address"}),
		up: prometheus.NewDesc("posthorn_backend_up",
			"Whether an address of a server behind the gateway is up.", []string{"address"}, whose),
		conns: prometheus.NewDesc("posthorn_backend_connections",
			"Connections to servers behind the gateway, for clients.", []string{"address"}, whose),
	}
	for _, a := range p.addresses {
		for _, result := range []string{"ok", "busy", "failed", "canceled"} {
			m.dials.WithLabelValues(a.name, result)
		}
		m.took.WithLabelValues(a.name)
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.dials, m.took, m}
}

// dialed counts a try to open a connection.
func (m *metrics) dialed(a *address, took time.Duration, err error, canceled bool) {
	result := "failed"
	switch {
	case err == nil:
		result = "ok"
		m.took.WithLabelValues(a.name).Observe(took.Seconds())
	case canceled:
		result = "canceled"
	case errors.Is(err, ErrBusy):
		result = "busy"
	}
	m.dials.WithLabelValues(a.name, result).Inc()
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.up
	ch <- m.conns
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.pool.Status() {
		up := 0.0
		if s.Up {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(m.up, prometheus.GaugeValue, up, s.Address)
		ch <- prometheus.MustNewConstMetric(m.conns, prometheus.GaugeValue, float64(s.Conns), s.Address)
	}
}
