package main

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"posthorn/admin"
)

// A gateway that hangs is waited for no longer than one that is not there.
func TestWaitForHanging(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.Listen("unix", path) // which takes requests, and answers none
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cl := admin.NewClient(path)
	defer cl.Close()
	if _, err := waitStatus(t.Context(), cl, 20*time.Millisecond); !errors.Is(err, errNotServing) {
		t.Error(err)
	}
}
