package backend

import (
	"errors"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"posthorn/accounts"
)

// logins counts those at one server of a mail system.
type logins struct {
	results *prometheus.CounterVec
	seconds prometheus.Histogram
}

func newLogins(backend string, s Service) *logins {
	labels := prometheus.Labels{"backend": backend, "service": s.String()}
	return &logins{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name:        "posthorn_backend_logins_total",
			Help:        "Logins at servers behind the gateway, by method (password is the user's own) and result.",
			ConstLabels: labels,
		}, []string{"method", "result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:        "posthorn_backend_login_seconds",
			Help:        "Time to connect and log in to servers behind the gateway, of logins that succeeded.",
			ConstLabels: labels,
			Buckets:     prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
	}
}

func (l *logins) collectors() []prometheus.Collector {
	return []prometheus.Collector{l.results, l.seconds}
}

// note counts a login that began at a time and came to err.
func (l *logins) note(m Method, began time.Time, err error) {
	method := string(m)
	if m == "" {
		method = "password"
	}
	if err == nil {
		l.seconds.Observe(time.Since(began).Seconds())
	}
	l.results.WithLabelValues(method, loginResult(err)).Inc()
}

func loginResult(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, accounts.ErrWrongPassword):
		return "wrong password"
	case errors.Is(err, ErrRefused):
		return "refused"
	case errors.As(err, new(*goimap.Error)), errors.As(err, new(*smtp.SMTPError)):
		return "no"
	}
	return "unavailable"
}
