package upstream_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"posthorn/backend/upstream"
)

// TestMetrics registers the metrics of several pools, as cmd does.
func TestMetrics(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	good, bad := serve(t, says(greeting)), closedPort
	for _, service := range []string{"imap", "submission"} {
		p := newPool(t, upstream.Config{Backend: "mail", Service: service, Addresses: []string{bad, good.address}})
		r.MustRegister(p.Collectors()...)
		dial(t, p, upstream.Header{})
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			got[f.GetName()+" "+strings.Join(labels, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
		}
	}
	for _, service := range []string{"imap", "submission"} {
		for name, want := range map[string]float64{
			"posthorn_backend_up " + bad + " mail " + service:                        0,
			"posthorn_backend_up " + good.address + " mail " + service:               1,
			"posthorn_backend_connections " + good.address + " mail " + service:      1,
			"posthorn_backend_dials_total " + bad + " mail failed " + service:        1,
			"posthorn_backend_dials_total " + good.address + " mail ok " + service:   1,
			"posthorn_backend_dial_seconds " + good.address + " mail " + service:     1,
			"posthorn_backend_dials_total " + good.address + " mail busy " + service: 0,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s: %v, want %v", name, v, want)
			}
		}
	}
}
