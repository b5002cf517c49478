package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"posthorn/alpn"
	"posthorn/client"
	"posthorn/client/clienttest"
)

// want is what becomes of a route.
type want struct {
	class client.Class // empty: it leads to the gateway
	alert uint8
}

// tryRoute logs in to both protocols by one route.
func tryRoute(t *testing.T, d *client.Dialer, w want) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	began := time.Now()
	c, err := d.IMAP(ctx, nil)
	if err == nil {
		if c.State() != goimap.ConnStateAuthenticated {
			t.Error("IMAP: not logged in")
		}
		if err := c.Noop().Wait(); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	checkRoute(t, "imap", err, w)
	s, err := d.Submission(ctx)
	if err == nil {
		if err := s.SendMail(alice, []string{alice}, strings.NewReader("From: <"+alice+">\r\nSubject: x\r\n\r\nx\r\n")); err != nil {
			t.Error(err)
		}
		s.Close()
	}
	checkRoute(t, "submission", err, w)
	if took := time.Since(began); took > 8*time.Second && w.class != "" {
		t.Errorf("took %v", took)
	}
}

// patient gives a route that leads to the gateway all the time that a busy machine
// may need.
func patient(c *client.Config) { c.Timeout = 15 * time.Second }

func checkRoute(t *testing.T, what string, err error, w want) {
	t.Helper()
	if err == nil && w.class == "" {
		return
	}
	var failed *client.DialError
	if !errors.As(err, &failed) || len(failed.Routes) != 1 {
		t.Errorf("%s: %v, want %q", what, err, w.class)
		return
	}
	if e := failed.Routes[0]; e.Class != w.class || w.alert != 0 && e.Alert != w.alert {
		t.Errorf("%s: %v, class %q, alert %d; want %+v", what, e, e.Class, e.Alert, w)
	}
	if strings.ContainsAny(failed.Routes[0].Error(), "\r\n") {
		t.Errorf("%s: %q is more than a line", what, failed.Routes[0].Error())
	}
}

// TestMatrix tries each route in each network: it leads to the gateway, or fails
// in the way that fits.
func TestMatrix(t *testing.T) {
	g := start(t)
	reach := map[client.Kind]want{}
	all := func(c client.Class) map[client.Kind]want {
		m := make(map[client.Kind]want)
		for _, k := range client.AllRoutes() {
			m[k] = want{class: c}
		}
		return m
	}
	some := func(c client.Class, kinds ...client.Kind) map[client.Kind]want {
		m := make(map[client.Kind]want)
		for _, k := range kinds {
			m[k] = want{class: c}
		}
		return m
	}
	but := func(m map[client.Kind]want, k client.Kind) map[client.Kind]want {
		delete(m, k)
		return m
	}
	mailPorts := func(v clienttest.Verdict) map[uint16]clienttest.Verdict {
		return map[uint16]clienttest.Verdict{993: v, 465: v}
	}
	names := func(v clienttest.Verdict, names ...string) map[string]clienttest.Verdict {
		m := make(map[string]clienttest.Verdict)
		for _, n := range names {
			m[n] = v
		}
		return m
	}
	inspector := &clienttest.Inspector{CA: clienttest.NewAuthority(t, "a middlebox")}
	tests := map[string]struct {
		rules clienttest.Rules
		want  map[client.Kind]want
	}{
		"open":                  {clienttest.Rules{}, reach},
		"slow":                  {clienttest.Rules{RTT: 60 * time.Millisecond}, reach},
		"mail ports closed":     {clienttest.Rules{Ports: mailPorts(clienttest.Refuse)}, some(client.Refused, client.Dedicated, client.Bare)},
		"mail ports swallowed":  {clienttest.Rules{Ports: mailPorts(clienttest.BlackHole)}, some(client.Silence, client.Dedicated, client.Bare)},
		"ALPN reset":            {clienttest.Rules{ALPN: names(clienttest.Reset, "imap", "smtp")}, some(client.Reset, client.Dedicated, client.ALPN, client.ECH)},
		"ALPN swallowed":        {clienttest.Rules{ALPN: names(clienttest.BlackHole, "imap", "smtp")}, some(client.Silence, client.Dedicated, client.ALPN, client.ECH)},
		"ALPN cut":              {clienttest.Rules{ALPN: names(clienttest.Cut, "imap", "smtp")}, some(client.Closed, client.Dedicated, client.ALPN, client.ECH)},
		"ALPN answered":         {clienttest.Rules{ALPN: names(clienttest.BlockPage, "imap", "smtp")}, some(client.HTTP, client.Dedicated, client.ALPN, client.ECH)},
		"no ALPN":               {clienttest.Rules{NoALPN: clienttest.Reset}, some(client.Reset, client.Bare, client.Name, client.ECHName)},
		"the name":              {clienttest.Rules{Names: names(clienttest.Reset, host)}, some(client.Reset, client.Dedicated, client.Bare, client.ALPN, client.Web)},
		"the web":               {clienttest.Rules{ALPN: names(clienttest.Reset, "h2", "http/1.1")}, some(client.Reset, client.Web)},
		"all but the web":       {clienttest.Rules{NoALPN: clienttest.Reset, ALPN: names(clienttest.Reset, "imap", "smtp")}, but(all(client.Reset), client.Web)},
		"mail names":            {clienttest.Rules{Names: names(clienttest.Reset, "imap.example.org", "smtp.example.org")}, some(client.Reset, client.Name)},
		"all names":             {clienttest.Rules{Names: names(clienttest.Reset, host, "imap.example.org", "smtp.example.org")}, some(client.Reset, client.Dedicated, client.Bare, client.ALPN, client.Name, client.Web)},
		"the public name":       {clienttest.Rules{Names: names(clienttest.Reset, publicName)}, some(client.Reset, client.ECH, client.ECHName)},
		"ECH":                   {clienttest.Rules{ECH: clienttest.BlackHole}, some(client.Silence, client.ECH, client.ECHName)},
		"re-signed":             {clienttest.Rules{Inspect: inspector}, all(client.Certificate)},
		"after some octets":     {clienttest.Rules{Bytes: 600}, all(client.Reset)},
		"swallowed after some":  {clienttest.Rules{Bytes: 600, BytesVerdict: clienttest.BlackHole}, all(client.Silence)},
		"nothing but a portal":  {clienttest.Rules{NoALPN: clienttest.BlockPage, Names: names(clienttest.BlockPage, host, publicName)}, all(client.HTTP)},
		"nothing but the proxy": {clienttest.Rules{OnlyProxies: clienttest.Refuse}, all(client.Refused)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := g.network(tt.rules)
			for _, k := range client.AllRoutes() {
				t.Run(string(k), func(t *testing.T) {
					t.Parallel()
					edit := []func(*client.Config){only(k)}
					if tt.want[k].class == "" {
						edit = append(edit, patient)
					}
					tryRoute(t, g.dialer(n, edit...), tt.want[k])
				})
			}
		})
	}
}

// TestReach: in each of these networks some route leads to the gateway, and it is
// found.
func TestReach(t *testing.T) {
	g := start(t)
	closed := map[uint16]clienttest.Verdict{993: clienttest.BlackHole, 465: clienttest.BlackHole}
	alpns := map[string]clienttest.Verdict{"imap": clienttest.Reset, "smtp": clienttest.Reset}
	tests := map[string]struct {
		rules clienttest.Rules
		want  client.Kind
	}{
		"open":                 {clienttest.Rules{}, client.Dedicated},
		"443 alone":            {clienttest.Rules{Ports: closed}, client.ALPN},
		"443 without the name": {clienttest.Rules{Ports: closed, Names: map[string]clienttest.Verdict{host: clienttest.BlackHole}}, client.ECH},
		"443 without ALPN":     {clienttest.Rules{Ports: closed, ALPN: alpns}, client.Name},
		"the web":              {clienttest.Rules{Ports: closed, ALPN: alpns, NoALPN: clienttest.Reset}, client.Web},
		"neither":              {clienttest.Rules{Ports: closed, ALPN: alpns, Names: map[string]clienttest.Verdict{"imap.example.org": clienttest.Reset}}, client.ECHName},
	}
	for name, tt := range tests {
		for _, inOrder := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d := g.dialer(g.network(tt.rules), func(c *client.Config) { c.InOrder, c.Timeout = inOrder, time.Second })
				c, err := d.Dial(within(t, 20*time.Second), alpn.IMAP)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if inOrder && c.Route.Kind != tt.want || !c.Preauthenticated() || !strings.HasPrefix(c.Greeting(), "* PREAUTH [CAPABILITY ") {
					t.Errorf("%s, %q", c.Route, c.Greeting())
				}
			})
		}
	}
}

// TestNoRoute: the error names every route and why.
func TestNoRoute(t *testing.T) {
	g := start(t)
	n := g.network(clienttest.Rules{
		Ports:  map[uint16]clienttest.Verdict{993: clienttest.Refuse},
		NoALPN: clienttest.BlockPage, ECH: clienttest.Reset, Names: map[string]clienttest.Verdict{host: clienttest.Cut},
	})
	_, err := g.dialer(n).IMAP(within(t, 20*time.Second), nil)
	var failed *client.DialError
	if !errors.As(err, &failed) {
		t.Fatal(err)
	}
	got := make(map[client.Kind]client.Class)
	for _, e := range failed.Routes {
		got[e.Route.Kind] = e.Class
	}
	for k, want := range map[client.Kind]client.Class{
		client.Dedicated: client.Refused, client.ALPN: client.Closed, client.Name: client.HTTP,
		client.ECH: client.Reset, client.ECHName: client.Reset, client.Web: client.Closed,
	} {
		if got[k] != want {
			t.Errorf("%s: %q, want %q", k, got[k], want)
		}
	}
	if text := err.Error(); strings.Count(text, "\n") != 6 || !strings.Contains(text, "alpn mail.example.org:443: closed after the ClientHello (handshake, ") {
		t.Errorf("%s", text)
	}
}
