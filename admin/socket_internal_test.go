package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMayAdminister(t *testing.T) {
	me := uint32(os.Geteuid())
	if !mayAdminister(0) || !mayAdminister(me) {
		t.Error("root or the gateway's user may not")
	}
	if mayAdminister(me+1) || mayAdminister(65534+me) {
		t.Error("others may")
	}
}

// The kernel says who is at the other end; of a connection that it cannot say
// it of, nobody is.
func TestPeer(t *testing.T) {
	ln, err := Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := new(http.Request).WithContext(withPeer(context.Background(), s))
	if who, err := peerActor(r); err != nil || !who.Operator || !strings.HasPrefix(who.Name, "uid ") {
		t.Errorf("actor %+v, %v", who, err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	r = new(http.Request).WithContext(withPeer(context.Background(), a))
	if who, err := peerActor(r); !errors.Is(err, ErrForbidden) || who.Operator {
		t.Errorf("a pipe's actor %+v, %v", who, err)
	}
}
