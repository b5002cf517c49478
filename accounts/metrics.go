package accounts

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	checks  *prometheus.CounterVec
	tracked prometheus.GaugeFunc
	blocked prometheus.GaugeFunc
}

func newMetrics(l *limiter) metrics {
	return metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posthorn_password_checks_total",
			Help: "Passwords checked, by outcome: ok, the reason of the refusal, or no answer.",
		}, []string{"result"}),
		tracked: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "posthorn_throttle_sources",
			Help: "Sources whose failed passwords are remembered.",
		}, func() float64 { return float64(l.tracked()) }),
		blocked: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "posthorn_throttle_blocked_sources",
			Help: "Sources whose passwords are refused unseen.",
		}, func() float64 { return float64(len(l.blocks())) }),
	}
}

// count notes the outcome of a password check.
func (m *metrics) count(outcome error) {
	result := "ok"
	if refused := (*RefusedError)(nil); errors.As(outcome, &refused) {
		result = string(refused.Reason)
	} else if outcome != nil {
		result = "no answer"
	}
	m.checks.WithLabelValues(result).Inc()
}

// Collectors returns the door's metrics, for the caller to register. Logins
// are counted by the handlers, which know the protocol.
func (s *Store) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.metrics.checks, s.metrics.tracked, s.metrics.blocked}
}
