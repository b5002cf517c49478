package accounts_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"posthorn/accounts"
)

func TestCollectors(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		r := prometheus.NewRegistry()
		for _, c := range d.Collectors() {
			if err := r.Register(c); err != nil {
				t.Fatal(err)
			}
		}
		d.fail(home, 11)
		if got := d.guess(home.Next(), noKey, "alice@example.org", password); got != "" {
			t.Fatal(got)
		}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]float64)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		for name, want := range map[string]float64{
			"posthorn_password_checks_total ok":           1,
			"posthorn_password_checks_total unknown user": 10,
			"posthorn_password_checks_total throttled":    1,
			"posthorn_throttle_sources":                   1,
			"posthorn_throttle_blocked_sources":           1,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
	})
}
