package client_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"go.uber.org/goleak"

	"posthorn/client"
	"posthorn/client/clienttest"
	"posthorn/client/gatewaytest"
)

func TestMain(m *testing.M) {
	// Tests that are parallel wait more than they compute.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const (
	alice      = gatewaytest.Alice
	password   = gatewaytest.Password
	host       = gatewaytest.Host
	publicName = gatewaytest.PublicName
)

// gateway is one, for clients in networks.
type gateway struct {
	*gatewaytest.Gateway
	t testing.TB
}

func start(t testing.TB) *gateway {
	t.Helper()
	return &gateway{gatewaytest.Start(t), t}
}

// network puts a network before the gateway.
func (g *gateway) network(r clienttest.Rules) *clienttest.Network {
	g.t.Helper()
	return clienttest.New(g.t, g.Ports, r)
}

// config is a client's in a network, with alice's key.
func (g *gateway) config(n *clienttest.Network) client.Config {
	c := g.Client(n)
	c.Timeout = 3 * time.Second
	return c
}

func (g *gateway) dialer(n *clienttest.Network, edit ...func(*client.Config)) *client.Dialer {
	g.t.Helper()
	c := g.config(n)
	for _, e := range edit {
		e(&c)
	}
	d, err := client.New(c)
	if err != nil {
		g.t.Fatal(err)
	}
	return d
}

// only tries one route.
func only(k client.Kind) func(*client.Config) {
	return func(c *client.Config) { c.Routes = []client.Kind{k} }
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
