package admin

import (
	"context"
	"fmt"
	"time"
)

// Activity is what happens on the gateway, for charts. Counters begin at zero when
// the gateway starts.
type Activity struct {
	Time    time.Time `json:"time"`
	Started time.Time `json:"started"` // of the gateway
	// Conns are the live connections by protocol (ALPN ID); "": not known yet.
	Conns map[string]uint64 `json:"connections"`
	// Logins are those that succeeded, by mechanism.
	Logins map[string]uint64 `json:"logins"`
	// Refusals are logins that failed, by reason; for mechanisms without a
	// password, by the mechanism.
	Refusals map[string]uint64 `json:"refusals"`
	// Dropped are connections that were not served, or closed to make room.
	Dropped uint64 `json:"dropped"`
	// Handshakes are TLS handshakes by result.
	Handshakes map[string]uint64 `json:"handshakes"`
	In         uint64            `json:"bytes_in"` // from clients, below TLS
	Out        uint64            `json:"bytes_out"`
}

// Activity returns what happens on the gateway: the part of the metrics that the
// operator's pages draw.
func (s *Service) Activity(_ context.Context, who Actor) (*Activity, error) {
	const action = "metrics"
	if err := s.operator(who, action); err != nil {
		return nil, err
	}
	a := &Activity{Time: time.Now().UTC(), Started: s.Instance.Started, Conns: map[string]uint64{}, Logins: map[string]uint64{},
		Refusals: map[string]uint64{}, Handshakes: map[string]uint64{}}
	if s.Metrics == nil {
		return a, nil
	}
	families, err := s.Metrics.Gather()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			a.count(f.GetName(), labels, uint64(m.GetCounter().GetValue()+m.GetGauge().GetValue()))
		}
	}
	return a, nil
}

// count adds one sample of a metric, if it is one that is shown.
func (a *Activity) count(metric string, labels map[string]string, n uint64) {
	ok := labels["result"] == "ok"
	switch metric {
	case "posthorn_connections":
		a.Conns[labels["protocol"]] += n
	case "posthorn_handshakes_total":
		a.Handshakes[labels["result"]] += n
	case "posthorn_connections_dropped_total":
		a.Dropped += n
	case "posthorn_bytes_total":
		if labels["direction"] == "in" {
			a.In += n
		} else {
			a.Out += n
		}
	case "posthorn_logins_total":
		mechanism := labels["mechanism"]
		switch {
		case ok:
			a.Logins[mechanism] += n
		case mechanism == "EXTERNAL", mechanism == "PREAUTH": // others are counted with their reasons
			a.Refusals[mechanism] += n
		}
	case "posthorn_password_checks_total":
		if !ok {
			a.Refusals[labels["result"]] += n
		}
	}
}
