package mux_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/alpn"
	"posthorn/authkeys"
	"posthorn/mux"
)

// inBubble runs a test with a server behind pipes, where waiting takes no time.
func inBubble(t *testing.T, p alpn.Port, test func(t *testing.T, b *bench, pipes *pipes), edits ...func(*mux.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, edits...)
		ps := newPipes()
		b.serveOn(ps, p)
		test(t, b, ps)
	})
}

// elapsed is how long the client waits for the end of its connection.
func elapsed(c net.Conn) time.Duration {
	start := time.Now()
	_, _ = io.Copy(io.Discard, c)
	return time.Since(start)
}

func wantElapsed(t *testing.T, got, want time.Duration) {
	t.Helper()
	if got < want || got > want+time.Second {
		t.Errorf("ended after %v, want %v", got, want)
	}
}

func TestHandshakeTimeout(t *testing.T) {
	for _, tt := range []struct {
		name string
		send string
		want time.Duration
	}{
		{"silence", "", 7500 * time.Millisecond},
		{"partial record header", "\x16\x03", 7500 * time.Millisecond},
		{"partial hello", "\x16\x03\x01\x02\x00\x01\x00\x01", 7500 * time.Millisecond},
		{"HTTP", "GET", 0},
		{"SMTP", "EHLO x\r\n", 0},
		{"SSLv2", "\x80\x2e\x01\x00\x02", 0},
		{"PROXY header of a stranger", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", 0},
		{"a record too long", "\x16\x03\x01\xff\xff", 0},
		{"empty line", "\r\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
				c := ps.dial()
				start := time.Now()
				go io.WriteString(c, tt.send)
				echo, _ := io.ReadAll(c)
				wantElapsed(t, time.Since(start), tt.want)
				if len(echo) > 7 { // an alert at most
					t.Errorf("answered %q", echo)
				}
			})
		})
	}
}

// trickler sends a byte each second.
type trickler struct{ net.Conn }

func (c trickler) Write(b []byte) (int, error) {
	for i := range b {
		time.Sleep(time.Second)
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func TestHandshakeTrickle(t *testing.T) {
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		start := time.Now()
		err := tls.Client(trickler{ps.dial()}, clientConfig("imap")).Handshake()
		if err == nil {
			t.Fatal("a hello of ten minutes was waited for")
		}
		if got := time.Since(start); got > 9*time.Second {
			t.Errorf("ended after %v", got)
		}
	})
}

// TestHandshakeStall stops after the server's first flight.
func TestHandshakeStall(t *testing.T) {
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		c := ps.dial()
		start := time.Now()
		cc := clientConfig("imap")
		stalled := errors.New("stalled")
		cc.VerifyConnection = func(tls.ConnectionState) error {
			time.Sleep(time.Hour)
			return stalled
		}
		go tls.Client(c, cc).Handshake()
		synctest.Wait()
		time.Sleep(9 * time.Second)
		if len(b.Conns()) != 1 {
			t.Errorf("gone after %v", time.Since(start))
		}
		time.Sleep(2 * time.Second)
		if len(b.Conns()) != 0 {
			t.Errorf("there after %v", time.Since(start))
		}
		time.Sleep(time.Hour)
	})
}

func TestPreLoginTimeout(t *testing.T) {
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		c := ps.connect(t, clientConfig("imap"))
		c.want("hello imap")
		for range 11 {
			time.Sleep(5 * time.Second)
			c.send("NOOP")
			c.want("imap NOOP key=")
		}
		start := time.Now()
		c.want("bye timeout")
		wantElapsed(t, time.Since(start), 5*time.Second)
		c.wantEnd()
	})
}

func TestStartTLSPreLoginTimeout(t *testing.T) {
	inBubble(t, alpn.IMAPStartTLS, func(t *testing.T, b *bench, ps *pipes) {
		c := newClient(t, ps.dial())
		c.want("hello imap")
		start := time.Now()
		c.want("bye timeout")
		wantElapsed(t, time.Since(start), time.Minute)
	})
}

// login makes every line of an IMAP client a login to the account it names.
func login(c *mux.Config) {
	c.Handlers[alpn.IMAP] = &talker{name: "imap", line: func(_ context.Context, c *mux.Conn, line string) string {
		if err := c.SetIdentity(mux.Identity{Account: line, Address: line + "@example.org", Mechanism: "PLAIN"}); err != nil {
			return "no " + err.Error()
		}
		return "ok " + line
	}}
}

func TestIdleTimeout(t *testing.T) {
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		c := ps.connect(t, clientConfig("imap"))
		c.want("hello imap")
		for range 5 {
			c.send("alice")
			c.want("ok alice")
			time.Sleep(34 * time.Minute)
		}
		start := time.Now()
		c.want("bye timeout")
		wantElapsed(t, time.Since(start), time.Minute)
	}, login)
}

// TestHTTPOutlivesPreLogin: a request need not log in.
func TestHTTPOutlivesPreLogin(t *testing.T) {
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		c := ps.connect(t, clientConfig("http/1.1"))
		c.want("hello http")
		time.Sleep(10 * time.Minute)
		c.send("GET")
		c.want("http GET key=")
	})
}

func TestSilenceIsHTTP(t *testing.T) {
	for _, first := range []string{"", "EH"} {
		inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
			c := ps.connect(t, clientConfig())
			if first != "" {
				io.WriteString(c, first)
			}
			start := time.Now()
			c.want("hello http")
			wantElapsed(t, time.Since(start), 10*time.Second)
			c.send("LO")
			c.want("http " + first + "LO key=") // nothing of it is lost
		})
	}
}

// TestSniffTrickle: the silence is that between bytes, and all of it counts
// as before login.
func TestSniffTrickle(t *testing.T) {
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		c := ps.connect(t, clientConfig())
		var trickle sync.WaitGroup
		trickle.Go(func() {
			for range 64 {
				if _, err := io.WriteString(c, "a"); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		})
		defer trickle.Wait()
		wantElapsed(t, elapsed(c), time.Minute)
	})
}

// TestLibraryDeadline: a deadline that a library sets wakes it and no more; the
// end of ours is final, whatever the library does.
func TestLibraryDeadline(t *testing.T) {
	var errs []error
	h := &talker{name: "imap", line: func(_ context.Context, c *mux.Conn, line string) string {
		read := func(d time.Duration) {
			c.SetReadDeadline(time.Now().Add(d))
			_, err := c.Read(make([]byte, 1))
			errs = append(errs, err)
		}
		read(time.Second)
		read(-time.Second)
		read(2 * time.Minute) // longer than ours
		read(time.Hour)
		c.SetReadDeadline(time.Time{})
		_, err := c.Read(make([]byte, 1))
		errs = append(errs, err)
		return "done"
	}}
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		c := ps.connect(t, clientConfig("imap"))
		c.want("hello imap")
		c.send("x")
		c.want("done")
		for i, err := range errs {
			if final := i >= 2; errors.Is(err, mux.ErrTimeout) != final {
				t.Errorf("read %d: %v; final: %v", i, err, final)
			}
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("read %d: %v is no timeout", i, err)
			}
		}
		if len(errs) != 5 {
			t.Errorf("%d reads", len(errs))
		}
	}, func(c *mux.Config) { c.Handlers[alpn.IMAP] = h })
}

// TestWriteRate: a client that takes nothing is dropped, one that takes little
// but enough is not, however long that lasts.
func TestWriteRate(t *testing.T) {
	const size = 500_000
	h := &talker{name: "imap", line: func(_ context.Context, c *mux.Conn, line string) string {
		c.SetIdentity(mux.Identity{Account: "a"})
		c.Write(make([]byte, size))
		return ""
	}}
	use := func(c *mux.Config) { c.Handlers[alpn.IMAP] = h }
	t.Run("nothing", func(t *testing.T) {
		inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
			c := ps.connect(t, clientConfig("imap"))
			c.want("hello imap")
			c.send("go")
			time.Sleep(25 * time.Second)
			if len(b.Conns()) != 1 {
				t.Fatal("dropped too early")
			}
			time.Sleep(40 * time.Second)
			if len(b.Conns()) != 0 {
				t.Error("still there")
			}
		}, use)
	})
	t.Run("little", func(t *testing.T) {
		inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
			raw := ps.dial()
			tc := tls.Client(metered{raw}, clientConfig("imap"))
			c := newClient(t, tc)
			c.want("hello imap")
			c.send("go")
			start := time.Now()
			n, err := io.CopyN(io.Discard, c.r, size)
			if err != nil {
				t.Errorf("after %d bytes: %v", n, err)
			}
			if got := time.Since(start); got < 5*time.Minute {
				t.Errorf("took only %v, which tests nothing", got)
			}
		}, use)
	})
}

// metered reads 1000 bytes each four seconds, from the first large read on.
type metered struct{ net.Conn }

func (m metered) Read(b []byte) (int, error) {
	if len(b) > 8000 {
		time.Sleep(4 * time.Second)
		b = b[:1000]
	}
	return m.Conn.Read(b)
}

// TestOwesData: a client that owes data must send at a fair rate.
func TestOwesData(t *testing.T) {
	h := &talker{name: "smtp", line: func(_ context.Context, c *mux.Conn, line string) string {
		c.SetIdentity(mux.Identity{Account: "a"})
		c.OwesData(line == "DATA")
		return "ok"
	}}
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		c := ps.connect(t, clientConfig("smtp"))
		c.want("hello smtp")
		c.send("NOOP")
		c.want("ok")
		time.Sleep(5 * time.Minute) // it owes nothing
		c.send("DATA")
		c.want("ok")
		long := make([]byte, 200)
		for range 100 {
			time.Sleep(time.Second)
			if _, err := c.Write(long); err != nil {
				t.Fatal(err)
			}
		}
		var trickle sync.WaitGroup
		trickle.Go(func() {
			for { // more often than any deadline, but too little
				time.Sleep(time.Second)
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
			}
		})
		defer trickle.Wait()
		defer c.Close()
		start := time.Now()
		c.want("bye timeout")
		if got := time.Since(start); got > 61*time.Second {
			t.Errorf("ended after %v", got)
		}
	}, func(c *mux.Config) { c.Handlers[alpn.SMTP] = h })
}

func TestExpiry(t *testing.T) {
	h := &talker{name: "imap", line: func(_ context.Context, c *mux.Conn, line string) string {
		c.SetIdentity(mux.Identity{Account: "a", Expires: time.Now().Add(10 * time.Minute)})
		return "ok"
	}}
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		c := ps.connect(t, clientConfig("imap"))
		c.want("hello imap")
		c.send("x")
		c.want("ok")
		start := time.Now()
		c.want("bye access revoked")
		wantElapsed(t, time.Since(start), 10*time.Minute)
		c.wantEnd()
	}, func(c *mux.Config) { c.Handlers[alpn.IMAP] = h })
}

// An expiry can come nearer, go away and be moved on, also twice.
func TestSetExpires(t *testing.T) {
	key := authkeys.Fingerprint{1}
	h := &talker{name: "imap", line: func(_ context.Context, c *mux.Conn, line string) string {
		if line == "own" {
			c.SetExpires(time.Now().Add(time.Minute))
		} else {
			c.SetIdentity(mux.Identity{Account: "a", Key: key, Expires: time.Now().Add(10 * time.Minute)})
		}
		return "ok"
	}}
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		for _, tt := range []struct {
			name string
			set  []time.Duration // from now; 0: never
			key  authkeys.Fingerprint
			want time.Duration
		}{
			{"untouched", nil, key, 10 * time.Minute},
			{"shorter", []time.Duration{5 * time.Minute}, key, 5 * time.Minute},
			{"longer", []time.Duration{20 * time.Minute}, key, 20 * time.Minute},
			{"never, then", []time.Duration{0, 7 * time.Minute}, key, 7 * time.Minute},
			{"past", []time.Duration{-time.Hour}, key, 0},
			{"another key's", []time.Duration{time.Minute}, authkeys.Fingerprint{2}, 10 * time.Minute},
		} {
			c := ps.connect(t, clientConfig("imap"))
			c.want("hello imap")
			c.send("x")
			c.want("ok")
			start := time.Now()
			for _, d := range tt.set {
				at := time.Time{}
				if d != 0 {
					at = start.Add(d)
				}
				b.SetExpires(b.Conns()[0].ID, tt.key, at)
			}
			c.want("bye access revoked")
			t.Log(tt.name)
			wantElapsed(t, time.Since(start), tt.want)
			c.wantEnd()
			synctest.Wait()
		}
		c := ps.connect(t, clientConfig("imap"))
		c.want("hello imap")
		for _, line := range []string{"x", "own"} {
			c.send(line)
			c.want("ok")
		}
		start := time.Now()
		c.want("bye access revoked")
		wantElapsed(t, time.Since(start), time.Minute)
		c.wantEnd()
		b.SetExpires(1000, key, time.Now()) // of nobody
	}, func(c *mux.Config) { c.Handlers[alpn.IMAP] = h })
}

// deaf is a handler that does not notice that its connection has to go.
type deaf struct{ ended chan error }

func (h deaf) Busy() []byte { return nil }
func (h deaf) ServeConn(ctx context.Context, c *mux.Conn) {
	<-ctx.Done()
	time.Sleep(time.Minute)
	_, err := c.Conn.Write([]byte("late"))
	h.ended <- err
}

func TestGrace(t *testing.T) {
	var h deaf
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		c := ps.connect(t, clientConfig("imap"))
		synctest.Wait()
		if n := b.Close(func(mux.Info) bool { return true }, mux.ErrRevoked); n != 1 {
			t.Errorf("closed %d", n)
		}
		wantElapsed(t, elapsed(c), 500*time.Millisecond)
		if err := <-h.ended; err == nil {
			t.Error("the handler could write after its grace")
		}
	}, func(c *mux.Config) {
		h = deaf{make(chan error, 1)}
		c.Handlers[alpn.IMAP] = h
	})
}
