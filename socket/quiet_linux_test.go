//go:build !race

package socket_test

import (
	"bytes"
	"io"
	"runtime/trace"
	"slices"
	"strings"
	"testing"

	xtrace "golang.org/x/exp/trace"
)

// Whatever is done with a connection, the scheduler hears of no system call, but
// when descriptors are given back, many at a time. (The race detector, which
// has to hear of reads and writes, has other ones.)
func TestQuiet(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	const cycles = 500
	cycle := func() {
		c := dial(t, ln.Addr().String())
		s := accept(t, ln)
		if _, err := io.WriteString(c, "ping"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		s.LocalAddr()
		s.RemoteAddr()
		s.(interface{ CloseWrite() error }).CloseWrite()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		c.Close()
		s.Close()
	}
	cycle() // opens what is opened once
	var traced bytes.Buffer
	if err := trace.Start(&traced); err != nil {
		t.Fatal(err)
	}
	for range cycles {
		cycle()
	}
	trace.Stop()
	buried, others := systemCalls(t, &traced)
	if buried == 0 {
		t.Error("nothing is given back")
	}
	for who, n := range others {
		t.Errorf("in %d cycles, the scheduler heard of %d system calls of %s", cycles, n, who)
	}
}

// systemCalls counts those that the scheduler heard of: where descriptors are given
// back, and others, by who made them.
func systemCalls(t *testing.T, r io.Reader) (buried int, others map[string]int) {
	t.Helper()
	events, err := xtrace.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	others = make(map[string]int)
	for {
		ev, err := events.ReadEvent()
		if err == io.EOF {
			return buried, others
		}
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind() != xtrace.EventStateTransition {
			continue
		}
		st := ev.StateTransition()
		if st.Resource.Kind != xtrace.ResourceGoroutine {
			continue
		}
		if _, to := st.Goroutine(); to != xtrace.GoSyscall {
			continue
		}
		var who []string
		for f := range ev.Stack().Frames() {
			who = append(who, f.Func)
		}
		if slices.Contains(who, "posthorn/socket.(*grave).bury") {
			buried++
		} else {
			others[strings.Join(who, " < ")]++
		}
	}
}
