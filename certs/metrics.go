package certs

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the manager does and show what it serves.
type metrics struct {
	manager  *Manager
	renewals *prometheus.CounterVec
	expiry   *prometheus.Desc
}

func (c *metrics) init(m *Manager) {
	c.manager = m
	c.renewals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthorn_certificate_renewals_total",
		Help: "Attempts to get a certificate from the CA, first ones included.",
	}, []string{"result"})
	for _, result := range []string{"ok", "failed"} {
		c.renewals.WithLabelValues(result)
	}
	c.expiry = prometheus.NewDesc("posthorn_certificate_expiry_seconds",
		"Seconds until the certificate expires that is served for a name; negative afterwards.",
		[]string{"name", "key", "source"}, nil)
}

// renewal counts an attempt to get a certificate from the CA.
func (c *metrics) renewal(result string) { c.renewals.WithLabelValues(result).Inc() }

// Collectors returns the manager's metrics, for the caller to register.
func (m *Manager) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.metrics.renewals, &m.metrics}
}

// Describe implements prometheus.Collector.
func (c *metrics) Describe(out chan<- *prometheus.Desc) { out <- c.expiry }

// Collect implements prometheus.Collector.
func (c *metrics) Collect(out chan<- prometheus.Metric) {
	now := c.manager.config.Now()
	for _, s := range c.manager.ready.all {
		state := s.state.Load()
		for _, id := range state.shown() {
			out <- prometheus.MustNewConstMetric(c.expiry, prometheus.GaugeValue, id.notAfter.Sub(now).Seconds(),
				s.name, string(id.keyType), string(state.source))
		}
	}
}
