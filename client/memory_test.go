package client_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"posthorn/alpn"
	"posthorn/client"
	"posthorn/client/clienttest"
)

// What worked in a network is tried first when the machine is back there, in
// another process too; and in no other network.
func TestMemory(t *testing.T) {
	g := start(t)
	file := filepath.Join(t.TempDir(), "cache", "routes.json")
	home := "home"
	dial := func(n *clienttest.Network) client.Kind {
		d := g.dialer(n, func(c *client.Config) {
			c.InOrder = true
			c.Memory = client.NewMemory(file).WithNetwork(func() string { return home })
		})
		c, err := d.Dial(within(t, 20*time.Second), alpn.IMAP)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		return c.Route.Kind
	}
	open := g.network(clienttest.Rules{})
	if got := dial(open); got != client.Dedicated {
		t.Errorf("begins with %s", got)
	}
	home = "hotel"
	tight := g.network(clienttest.Rules{
		Ports: map[uint16]clienttest.Verdict{993: clienttest.Refuse}, ALPN: map[string]clienttest.Verdict{"imap": clienttest.Reset},
	})
	if got := dial(tight); got != client.Name {
		t.Errorf("finds %s", got)
	}
	before := len(tight.Seen())
	if got := dial(tight); got != client.Name || len(tight.Seen()) != before+1 {
		t.Errorf("the second time %s, after %d others", got, len(tight.Seen())-before-1)
	}
	if got := dial(open); got != client.Name {
		t.Errorf("in the same network %s", got)
	}
	home = "home"
	if got := dial(open); got != client.Dedicated {
		t.Errorf("back home %s", got)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), "example") || strings.Contains(string(text), "hotel") || strings.Count(string(text), "route") != 2 {
		t.Errorf("the file says %s, %v", text, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, bad := range []string{"", "{", `{"x":{"route":"../../x","when":"2999-01-01T00:00:00Z"}}`, strings.Repeat("[", 1<<16)} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := dial(open); got != client.Dedicated {
			t.Errorf("with a broken file %s", got)
		}
	}
	if err := os.Chmod(filepath.Dir(file), 0o500); err != nil {
		t.Fatal(err)
	}
	home = "elsewhere"
	dial(open) // what cannot be written does not matter
	if err := os.Chmod(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
}

// The network has a name, which stays.
func TestNetwork(t *testing.T) {
	if a, b := client.Network(), client.Network(); a != b || len(a) != 16 {
		t.Errorf("%q, %q", a, b)
	}
}

// The name is that of routers and resolvers, and of nothing else.
func TestNetworkOf(t *testing.T) {
	const (
		route = "Iface Destination Gateway Flags\n"
		arp   = "IP address       HW type     Flags       HW address\n"
	)
	name := func(route, arp, resolv string) string {
		return client.NetworkOf(fstest.MapFS{
			"proc/net/route": {Data: []byte(route)}, "proc/net/arp": {Data: []byte(arp)}, "etc/resolv.conf": {Data: []byte(resolv)},
		})
	}
	home := name(route+"wlan0 00000000 0101A8C0 0003\nwlan0 0001A8C0 00000000 0001\n",
		arp+"192.168.1.1 0x1 0x2 aa:bb:cc:dd:ee:ff * wlan0\n", "nameserver 192.168.1.1\nnameserver 192.0.2.1\n")
	for what, got := range map[string]string{
		"by another interface, with another machine in sight": name(route+"eth0 0001A8C0 00000000 0001\neth0 00000000 0101A8C0 0003\n",
			arp+"192.168.1.7 0x1 0x2 00:00:00:00:00:07 * eth0\n192.168.1.1 0x1 0x2 aa:bb:cc:dd:ee:ff * eth0\n", "# x\nsearch home\nnameserver 192.0.2.1\nnameserver 192.168.1.1"),
	} {
		if got != home {
			t.Errorf("%s it is another network", what)
		}
	}
	others := map[string]string{
		"another router there": name(route+"wlan0 00000000 0101A8C0 0003\n", arp+"192.168.1.1 0x1 0x2 00:11:22:33:44:55 * wlan0\n", "nameserver 192.168.1.1\nnameserver 192.0.2.1\n"),
		"another address":      name(route+"wlan0 00000000 FE01A8C0 0003\n", arp+"192.168.1.1 0x1 0x2 aa:bb:cc:dd:ee:ff * wlan0\n", "nameserver 192.168.1.1\nnameserver 192.0.2.1\n"),
		"another resolver":     name(route+"wlan0 00000000 0101A8C0 0003\n", arp+"192.168.1.1 0x1 0x2 aa:bb:cc:dd:ee:ff * wlan0\n", "nameserver 192.168.1.1\n"),
		"no files":             client.NetworkOf(fstest.MapFS{}),
		"garbage":              name("x\n\n00000000\nx 00000000 XYZ\nx 00000000 0101A8C0FF\n", "\n\nx\n", "nameserver\n\n"),
	}
	for what, got := range others {
		if got == home || len(got) != 16 {
			t.Errorf("%s: %q", what, got)
		}
	}
}
