package client_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"posthorn/client"
	"posthorn/client/clienttest"
)

// found indexes a report's routes by protocol and name.
func found(r *client.Report) map[string]client.Finding {
	m := make(map[string]client.Finding)
	for _, f := range r.Routes {
		m[string(f.Protocol)+" "+string(f.Kind)] = f
	}
	return m
}

func TestProbe(t *testing.T) {
	g := start(t)
	n := g.network(clienttest.Rules{RTT: 10 * time.Millisecond})
	r, err := g.dialer(n, func(c *client.Config) { c.User, c.Password = alice, password }).Probe(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	all := found(r)
	if len(all) != 14 || !r.Reachable() {
		t.Errorf("%d routes", len(all))
	}
	for name, f := range all {
		greeting := "* OK [CAPABILITY "
		if strings.HasPrefix(name, "smtp") {
			greeting = "220 "
		}
		plain := f.Kind == client.Bare || f.Kind == client.Name
		encrypted := f.Kind == client.ECH || f.Kind == client.ECHName
		if !f.OK || f.Plain != plain || f.ECHAccepted != encrypted || !strings.HasPrefix(f.Greeting, greeting) || f.TLS != "TLS 1.3" ||
			f.Connected <= 0 || f.Connected > f.Secured || f.Secured > f.Greeted || f.Class != "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if c := r.Certificate; c == nil || !c.Verified || c.Issuer != "CN=the gateway's CA" || len(c.Names) != 4 || c.Key.IsZero() {
		t.Errorf("%+v", c)
	}
	if r.ALPN.State != client.ALPNStrict || !r.ECH.Found || !r.ECH.Accepted || r.ECH.PublicName != publicName {
		t.Errorf("%+v, %+v", r.ALPN, r.ECH)
	}
	if g.Sessions.Load() != 0 || strings.Contains(g.Log.String(), alice) {
		t.Error("somebody has logged in")
	}
	if text, err := json.Marshal(r); err != nil || !strings.Contains(string(text), `"route":"web","protocol":"imap","address":"mail.example.org:443"`) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestProbeFindsWhatIsInTheWay(t *testing.T) {
	g := start(t)
	box := &clienttest.Inspector{CA: clienttest.NewAuthority(t, "Evil\r\n\x1b[31m CA")}
	n := g.network(clienttest.Rules{
		Ports: map[uint16]clienttest.Verdict{993: clienttest.Refuse, 465: clienttest.BlackHole}, ECH: clienttest.Reset, Inspect: box,
	})
	r, err := g.dialer(n, func(c *client.Config) { c.Timeout = time.Second }).Probe(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for name, class := range map[string]client.Class{
		"imap dedicated": client.Refused, "smtp dedicated": client.Silence, "imap alpn": client.Certificate, "smtp ech": client.Reset,
		"imap name": client.Certificate, "smtp web": client.Certificate,
	} {
		if f := found(r)[name]; f.OK || f.Class != class || f.Reason == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if c := r.Certificate; r.Reachable() || c == nil || c.Verified || c.Reason == "" || strings.ContainsAny(c.Issuer, "\r\n\x1b") {
		t.Errorf("%+v", c)
	}
	if !r.ECH.Found || r.ECH.Accepted {
		t.Errorf("%+v", r.ECH)
	}
	only, err := g.dialer(n).Probe(within(t, 30*time.Second), client.Dedicated)
	if err != nil || len(only.Routes) != 2 {
		t.Errorf("%+v, %v", only, err)
	}
}
