package upstream_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/await"
	"posthorn/backend/upstream"
)

// TestDownAndUp has a server fall sick and recover without any client: the log
// tells of each once.
func TestDownAndUp(t *testing.T) {
	var on atomic.Bool
	on.Store(true)
	s := serve(t, switched(&on, "* NO \x1b[31m"+strings.Repeat("!", 5000)+"\r\n"))
	synctest.Test(t, func(t *testing.T) {
		var log record
		p := newPool(t, upstream.Config{
			Backend: "mail", Service: "imap", Addresses: []string{s.address}, Log: log.logger(),
			CheckInterval: 10 * time.Second,
		})
		began := time.Now()
		stop := run(t, p)
		time.Sleep(30 * time.Second)
		if st := p.Status()[0]; !st.Up || !st.Since.Equal(began) || st.Conns != 0 {
			t.Errorf("well from the start: %+v", st)
		}
		on.Store(false)
		time.Sleep(30 * time.Second)
		st := p.Status()[0]
		if st.Up || st.Error == "" || len(st.Error) > 1000 || strings.ContainsRune(st.Error, 0x1b) || st.Since.Sub(began) > 43*time.Second {
			t.Errorf("down: %+v", st)
		}
		fell := st.Since
		on.Store(true)
		time.Sleep(13 * time.Second)
		if st := p.Status()[0]; !st.Up || st.Error != "" {
			t.Errorf("back: %+v", st)
		}
		stop()
		checkLog(t, log.lines(), s.address, p.Status()[0].Since.Sub(fell))
	})
}

// checkLog wants one line that an address went down, and one that it is back.
func checkLog(t *testing.T, lines []string, address string, down time.Duration) {
	t.Helper()
	if len(lines) != 2 {
		t.Fatalf("log: %q", lines)
	}
	for i, level := range []string{"warn", "info"} {
		var e map[string]any
		if err := json.Unmarshal([]byte(lines[i]), &e); err != nil {
			t.Fatal(err)
		}
		if e["level"] != level || e["address"] != address || e["backend"] != "mail" || e["service"] != "imap" {
			t.Errorf("log: %s", lines[i])
		}
		if i == 1 && e["down_for"] != float64(down)/float64(time.Millisecond) {
			t.Errorf("log: %s, down for %v", lines[i], down)
		}
	}
}

// TestHiccup has a client meet a fault that does not last: the address is back
// within a second or so, whatever the interval.
func TestHiccup(t *testing.T) {
	var on atomic.Bool
	s := serve(t, switched(&on, "\r\n"))
	good := serve(t, says(greeting))
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, upstream.Config{Addresses: []string{s.address, good.address}, CheckInterval: time.Hour})
		on.Store(true)
		run(t, p)
		time.Sleep(time.Second)
		on.Store(false)
		dial(t, p, upstream.Header{})
		if p.Status()[0].Up {
			t.Fatal("the fault went unnoticed")
		}
		on.Store(true)
		time.Sleep(2 * time.Second)
		if s := p.Status()[0]; !s.Up {
			t.Errorf("Status: %+v", s)
		}
	})
}

// TestCheckIsPolite wants health checks to say of whom they are, and goodbye,
// and none of a server that clients have just been to.
func TestCheckIsPolite(t *testing.T) {
	var goodbyes atomic.Int32
	s := serve(t, func(c net.Conn) {
		h, r, err := readHeader(c)
		if err != nil || h.Command != "LOCAL" {
			t.Errorf("header %+v, %v", h, err)
			return
		}
		_, _ = io.WriteString(c, greeting)
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if lines.Text() == "LOGOUT" {
				goodbyes.Add(1)
				_, _ = io.WriteString(c, "* BYE\r\n")
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, upstream.Config{
			Addresses: []string{s.address}, ProxyProtocol: true, CheckInterval: 10 * time.Second,
			Quit: func(c *upstream.Conn) {
				_, _ = io.WriteString(c, "LOGOUT\r\n")
				if line, err := c.ReadLine(100); line != "* BYE" {
					t.Errorf("%q, %v", line, err)
				}
			},
		})
		run(t, p)
		time.Sleep(30 * time.Second)
		checks := s.accepted()
		if checks < 3 || checks > 5 || int(goodbyes.Load()) != checks {
			t.Errorf("%d checks, %d goodbyes", checks, goodbyes.Load())
		}
		for range 100 {
			_ = dial(t, p, upstream.Header{}).Close()
			time.Sleep(time.Second)
		}
		if n := s.accepted(); n != checks+100 {
			t.Errorf("%d checks of a server that was in use", n-checks-100)
		}
	})
}

// TestCheckOfFullServer finds a server well that only takes nobody more.
func TestCheckOfFullServer(t *testing.T) {
	s := serve(t, says("* BYE too many connections\r\n"))
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, upstream.Config{Addresses: []string{s.address}})
		run(t, p)
		time.Sleep(time.Minute)
		if s := p.Status()[0]; !s.Up || s.Conns != 0 {
			t.Errorf("Status: %+v", s)
		}
	})
}

// TestStopInCheck stops the checks while a server is silent.
func TestStopInCheck(t *testing.T) {
	s := serve(t, says(""))
	p := newPool(t, upstream.Config{Addresses: []string{s.address}})
	stop := run(t, p)
	await.Until(t, "check", func() bool { return s.accepted() > 0 })
	stop()
	if s := p.Status()[0]; !s.Up {
		t.Errorf("Status: %+v", s)
	}
}

// TestClientThatIsTurnedAway has a server that does not want one client: it is
// well for all others, and may not go down with each try of that one. When it
// wants nobody, the next check finds out.
func TestClientThatIsTurnedAway(t *testing.T) {
	var nobody atomic.Bool
	s := serve(t, func(c net.Conn) {
		h, _, err := readHeader(c)
		if err == nil && !nobody.Load() && !strings.HasPrefix(h.From, "192.0.2.66:") {
			says(greeting)(c)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var log record
		p := newPool(t, upstream.Config{Addresses: []string{s.address}, ProxyProtocol: true, CheckInterval: time.Minute, Log: log.logger()})
		run(t, p)
		here := netip.MustParseAddrPort("198.51.100.2:443")
		good := upstream.Header{Remote: netip.MustParseAddrPort("192.0.2.1:1"), Local: here}
		bad := upstream.Header{Remote: netip.MustParseAddrPort("192.0.2.66:1"), Local: here}
		for range 20 {
			if _, err := p.Dial(t.Context(), bad); !errors.Is(err, upstream.ErrUnavailable) {
				t.Fatal(err)
			}
			_ = dial(t, p, good).Close()
			time.Sleep(time.Second)
		}
		if s := p.Status()[0]; !s.Up || len(log.lines()[0]) > 0 {
			t.Errorf("Status: %+v, log %q", s, log.lines())
		}
		nobody.Store(true)
		if _, err := p.Dial(t.Context(), good); !errors.Is(err, upstream.ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if s := p.Status()[0]; s.Up {
			t.Errorf("Status: %+v", s)
		}
	})
}
