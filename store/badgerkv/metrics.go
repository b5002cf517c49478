package badgerkv

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's own. The observers are looked up once: a Get takes
// a few microseconds.
type metrics struct {
	latency                    *prometheus.HistogramVec
	get, scan, update, restore prometheus.Observer
}

func newMetrics() *metrics {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "posthorn_store_operation_seconds",
		Help:    "How long store operations took. A scan includes its reader's time, an update its wait for others.",
		Buckets: prometheus.ExponentialBuckets(1e-6, 4, 12),
	}, []string{"operation"})
	return &metrics{
		latency: v,
		get:     v.WithLabelValues("get"),
		scan:    v.WithLabelValues("scan"),
		update:  v.WithLabelValues("update"),
		restore: v.WithLabelValues("restore"),
	}
}

func since(o prometheus.Observer, start time.Time) { o.Observe(time.Since(start).Seconds()) }

// Collectors returns the store's metrics, for the caller to register.
func (db *DB) Collectors() []prometheus.Collector {
	return []prometheus.Collector{db.metrics.latency}
}
