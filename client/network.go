package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
)

// Network returns a name for the network that this machine is in: a hash of its
// routers, by their hardware addresses where the system tells them, its resolvers
// and, where no router is known, its addresses' prefixes. It is the same whenever
// the machine comes back, as long as those are, and says nothing else.
func Network() string { return networkOf(os.DirFS("/")) }

// networkOf is the name of the network that a machine with these files is in.
func networkOf(machine fs.FS) string {
	facts := routers(machine)
	if len(facts) == 0 {
		facts = prefixes()
	}
	facts = append(facts, nameservers(machine)...)
	slices.Sort(facts)
	h := sha256.Sum256([]byte(strings.Join(slices.Compact(facts), "\n")))
	return base64.RawURLEncoding.EncodeToString(h[:12])
}

// routers are the default IPv4 routers, as Linux has them.
func routers(machine fs.FS) (all []string) {
	hardware := make(map[string]string)
	for _, f := range table(machine, "proc/net/arp") { // IP address, HW type, flags, HW address, …
		if len(f) >= 4 {
			hardware[f[0]] = f[3]
		}
	}
	for _, f := range table(machine, "proc/net/route") { // interface, destination, gateway, …
		if len(f) < 3 || f[1] != "00000000" {
			continue
		}
		ip := littleEndian(f[2])
		all = append(all, "router "+ip+" "+hardware[ip])
	}
	return all
}

// table is the lines of a file in columns, without the head.
func table(machine fs.FS, file string) (rows [][]string) {
	data, err := fs.ReadFile(machine, file)
	if err != nil {
		return nil
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		if i > 0 {
			rows = append(rows, strings.Fields(string(line)))
		}
	}
	return rows
}

// littleEndian reads an IPv4 address as /proc/net/route writes it: as a number
// of the machine's, which is little-endian wherever it matters.
func littleEndian(hexadecimal string) string {
	b, err := hex.DecodeString(hexadecimal)
	if err != nil || len(b) != net.IPv4len {
		return ""
	}
	slices.Reverse(b)
	return net.IP(b).String()
}

func prefixes() (all []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			all = append(all, "prefix "+(&net.IPNet{IP: n.IP.Mask(n.Mask), Mask: n.Mask}).String())
		}
	}
	return all
}

func nameservers(machine fs.FS) (all []string) {
	data, err := fs.ReadFile(machine, "etc/resolv.conf")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" {
			all = append(all, "nameserver "+f[1])
		}
	}
	return all
}
