// Package backendtest is what tests need behind the gateway: real Dovecot and
// Postfix from the Debian packages, with configurations of their own on
// loopback ports, servers that follow a script, and networks that fail.
//
// The mail servers want root. Where they cannot be had, tests are skipped, but
// never in CI, which is known by the environment variable CI.
package backendtest

import (
	"bytes"
	"embed"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"
)

//go:embed conf
var conf embed.FS

// need ends the test when it cannot run here.
func need(t testing.TB, programs ...string) {
	t.Helper()
	var why string
	if os.Geteuid() != 0 {
		why = "only root can run these servers"
	}
	for _, p := range programs {
		if _, err := os.Stat(p); err != nil {
			why = p + " is not there: .ci/test installs it"
		}
	}
	switch {
	case why == "":
	case os.Getenv("CI") != "":
		t.Fatal(why)
	default:
		t.Skip("NOT TESTED: " + why)
	}
}

// Dir makes a directory for a server that does not stay root: unlike t.TempDir's,
// it can be entered by everybody, and its name leaves room for those of sockets.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ph")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Port returns a TCP port of 127.0.0.1 that is free and that no other test is
// given before this one is over. It is outside the range from which systems
// take ports for outgoing connections, so that it stays free until a server
// listens on it, and in between its starts.
func Port(t testing.TB) int {
	t.Helper()
	l := listen(t)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// listen listens on a port like Port's. It does so without Multipath TCP, which
// gives a port back some time after the listener is closed, and takes no filter.
func listen(t testing.TB) *net.TCPListener {
	t.Helper()
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	for range 1000 {
		port := 10000 + rand.IntN(20000)
		// Other processes, of the tests of other packages, see the reservation.
		reserved, err := net.Listen("unix", fmt.Sprintf("@posthorn-backendtest-%d", port))
		if err != nil {
			continue
		}
		l, err := plain.Listen(t.Context(), "tcp", loopback(port))
		if err != nil {
			reserved.Close()
			continue
		}
		t.Cleanup(func() { reserved.Close() })
		return l.(*net.TCPListener)
	}
	t.Fatal("no port is free")
	return nil
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// write makes a file, and the directory for it.
func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// configure makes a file from a template in conf.
func configure(t testing.TB, name, tmpl string, data any) {
	t.Helper()
	parsed, err := template.ParseFS(conf, "conf/"+tmpl)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := parsed.Execute(&text, data); err != nil {
		t.Fatal(err)
	}
	write(t, name, text.String())
}

// listens reports whether there is a server on an address.
func listens(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// tail returns the end of a log, as much as is worth showing.
func tail(s string) string {
	const most = 12000
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return strings.ToValidUTF8(s, "?")
}
