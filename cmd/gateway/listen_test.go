package main

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// Who has one of the two addresses of localhost keeps the gateway from the other:
// programs that try it first would come to a stranger.
func TestListenLocalhostTaken(t *testing.T) {
	for _, taken := range []string{"127.0.0.1:0", "[::1]:0"} {
		other, err := net.Listen("tcp", taken)
		if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
			continue // there is no IPv6
		}
		if err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(other.Addr().(*net.TCPAddr).Port)
		lns, err := listenLocalhost("listen.shared", port)
		if !errors.Is(err, errInUse) || hintOf(err) == "" {
			t.Errorf("%s is taken: %v", taken, err)
		}
		for _, ln := range lns {
			ln.Close()
		}
		other.Close()
	}
}
