package mux_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/await"
	"posthorn/mux"
)

func TestShutdown(t *testing.T) {
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		c := ps.connect(t, clientConfig("imap"))
		c.want("hello imap")
		half := ps.dial() // has no handler to say goodbye
		done := make(chan error, 1)
		go func() { done <- b.Shutdown(context.Background()) }()
		c.want("bye " + mux.ErrDraining.Error())
		c.wantEnd()
		if got := elapsed(half); got != 0 {
			t.Errorf("the half-open one took %v", got)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := b.Serve(context.Background(), newPipes(), alpn.Shared); err != nil {
			t.Errorf("Serve after Shutdown: %v", err)
		}
		if err := b.Shutdown(context.Background()); err != nil {
			t.Errorf("twice: %v", err)
		}
	})
}

// TestShutdownFinishes: a handler may finish what it is at, reads and all, and
// only the end of Shutdown's patience cuts it off.
func TestShutdownFinishes(t *testing.T) {
	finish := func(ctx context.Context, c *mux.Conn) {
		<-ctx.Done()
		buf := make([]byte, 1)
		for i := range 5 {
			time.Sleep(2 * time.Second)
			if _, err := c.Conn.Read(buf); err != nil {
				return
			}
			buf[0] = '0' + byte(i)
			_, _ = c.Conn.Write(buf)
		}
	}
	for patience, want := range map[time.Duration]string{time.Minute: "01234", 5 * time.Second: "01"} {
		inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
			c := ps.connect(t, clientConfig("imap"))
			var chat sync.WaitGroup
			chat.Go(func() { _, _ = io.WriteString(c, strings.Repeat("x", 5)) })
			defer chat.Wait()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- b.Shutdown(ctx) }()
			got, _ := io.ReadAll(c)
			if string(got) != want {
				t.Errorf("patience %v: %q, want %q", patience, got, want)
			}
			if err := <-done; (err != nil) != (want != "01234") {
				t.Errorf("patience %v: %v", patience, err)
			}
		}, func(c *mux.Config) { c.Handlers[alpn.IMAP] = serveFunc(finish) })
	}
}

type serveFunc func(context.Context, *mux.Conn)

func (f serveFunc) ServeConn(ctx context.Context, c *mux.Conn) { f(ctx, c) }
func (serveFunc) Busy() []byte                                 { return nil }

func TestServeEndsWithContext(t *testing.T) {
	b := start(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, ln, alpn.Shared) }()
	c := connect(t, ln.Addr().String(), clientConfig("imap"))
	c.want("hello imap")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.send("x") // connections live on
	c.want("imap x key=")
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("the listener is open")
	}
}

// failing is a listener that fails now and then.
type failing struct {
	*pipes
	errs chan error
}

func (f failing) Accept() (net.Conn, error) {
	select {
	case err := <-f.errs:
		return nil, &net.OpError{Op: "accept", Err: err}
	default:
		return f.pipes.Accept()
	}
}

// TestAcceptErrors: without descriptors nothing spins, and accepting goes on
// when they are back.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		ln := failing{newPipes(), make(chan error, 100)}
		for range 20 {
			ln.errs <- syscall.EMFILE
		}
		ln.errs <- syscall.ECONNABORTED
		begin := time.Now()
		b.serveOn(ln, alpn.Shared)
		ln.connect(t, clientConfig("imap")).want("hello imap")
		if got := time.Since(begin); got < 10*time.Second || got > 21*time.Second {
			t.Errorf("accepted after %v", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		ln := failing{newPipes(), make(chan error, 1)}
		ln.errs <- syscall.EBADF
		if err := b.Serve(t.Context(), ln, alpn.Shared); !errors.Is(err, syscall.EBADF) {
			t.Errorf("Serve: %v", err)
		}
	})
}

// TestPanic: one panic costs one connection, and its stack is logged.
func TestPanic(t *testing.T) {
	var log syncBuffer
	b := start(t, func(c *mux.Config) {
		c.Log = zerolog.New(&log)
		c.Handlers[alpn.IMAP] = serveFunc(explode)
	})
	addr := b.listen(alpn.Shared)
	other := connect(t, addr, clientConfig("smtp"))
	other.want("hello smtp")
	connect(t, addr, clientConfig("imap")).wantEnd()
	other.send("x")
	other.want("smtp x key=")
	await.Until(t, "it comes about", func() bool { return len(b.Conns()) == 1 })
	if s := log.String(); !strings.Contains(s, "explode") || !strings.Contains(s, `"reason":"panic"`) {
		t.Errorf("logged %s", s)
	}
}

func explode(context.Context, *mux.Conn) { panic("for the test") }

// syncBuffer is a buffer for logs.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestCloseAccount(t *testing.T) {
	inBubble(t, alpn.Shared, func(t *testing.T, b *bench, ps *pipes) {
		conns := map[string]*client{}
		for _, account := range []string{"alice", "alice2", "bob", ""} {
			c := ps.connect(t, clientConfig("imap"))
			c.want("hello imap")
			if account != "" {
				c.send(strings.TrimSuffix(account, "2"))
				c.line()
			}
			conns[account] = c
		}
		first := conns["alice"]
		all := func(mux.Info) bool { return true }
		if n := b.CloseAccount("", all, mux.ErrRevoked); n != 0 {
			t.Errorf("closed %d of nobody", n)
		}
		if n := b.CloseAccount("alice", func(i mux.Info) bool { return i.ID == 1 }, mux.ErrRevoked); n != 1 {
			t.Errorf("closed %d, want one of alice's", n)
		}
		first.want("bye " + mux.ErrRevoked.Error())
		first.wantEnd()
		synctest.Wait()
		if n := b.CloseAccount("alice", all, mux.ErrEvicted); n != 1 {
			t.Errorf("closed %d, want alice's other one", n)
		}
		conns["alice2"].want("bye " + mux.ErrEvicted.Error())
		conns["alice2"].wantEnd()
		synctest.Wait()
		infos := b.Conns()
		if len(infos) != 2 || infos[0].Identity.Account != "bob" || infos[1].Identity.Account != "" {
			t.Errorf("left: %+v", infos)
		}
		if i := infos[0]; i.Protocol != alpn.IMAP || i.ServerName != servedName || i.In == 0 || i.Out == 0 ||
			i.Identity.Address != "bob@example.org" || !i.Since.Equal(time.Now()) {
			t.Errorf("info: %+v", i)
		}
	}, login)
}

// TestRevokedReadsNothing: what comes after the end is not read, even if the
// handler goes on reading.
func TestRevokedReadsNothing(t *testing.T) {
	started, ended := make(chan bool), make(chan bool)
	read := make(chan string, 1)
	b := start(t, func(c *mux.Config) {
		c.Handlers[alpn.IMAP] = serveFunc(func(ctx context.Context, c *mux.Conn) {
			close(started)
			<-ended
			c.SetReadDeadline(time.Time{})
			got, _ := io.ReadAll(c)
			read <- string(got)
		})
	})
	c := connect(t, b.listen(alpn.Shared), clientConfig("imap"))
	<-started
	b.Close(nil, mux.ErrRevoked)
	c.send("DELETE everything")
	close(ended)
	if got := <-read; got != "" {
		t.Errorf("read %q", got)
	}
}

// TestLastWords: what a handler says last arrives, whatever the client has sent
// that nobody reads; and a reader that the handler left behind holds nothing up.
func TestLastWords(t *testing.T) {
	var left sync.WaitGroup
	sent := make(chan bool)
	b := start(t, func(c *mux.Config) {
		c.Handlers[alpn.IMAP] = serveFunc(func(_ context.Context, c *mux.Conn) {
			left.Go(func() { _, _ = io.Copy(io.Discard, io.LimitReader(c.Conn, 10)) })
			left.Go(func() { _, _ = c.Conn.Read(make([]byte, 1)) })
			<-sent
			_, _ = io.WriteString(c.Conn, "* BYE\r\n")
		})
	})
	addr := b.listen(alpn.Shared)
	for _, unread := range []int{0, 1, 100_000} {
		c := connect(t, addr, clientConfig("imap"))
		if _, err := c.Write(make([]byte, unread)); err != nil {
			t.Fatal(err)
		}
		sent <- true
		c.want("* BYE")
		c.wantEnd()
		c.Close()
	}
	left.Wait()
}

func TestOf(t *testing.T) {
	ok := make(chan bool, 1)
	b := start(t, func(c *mux.Config) {
		c.Handlers[alpn.IMAP] = serveFunc(func(_ context.Context, c *mux.Conn) {
			same := true
			for _, nc := range []net.Conn{c, c.Conn, c.Conn.(*tls.Conn).NetConn()} {
				got, found := mux.Of(nc)
				same = same && found && got == c
			}
			_, found := mux.Of(&net.TCPConn{})
			ok <- same && !found && c.TLS().NegotiatedProtocol == "imap"
		})
	})
	connect(t, b.listen(alpn.Shared), clientConfig("imap")).wantEnd()
	if !<-ok {
		t.Error("Of did not find its way")
	}
}

func TestLog(t *testing.T) {
	for _, privacy := range []bool{false, true} {
		var log syncBuffer
		b := start(t, func(c *mux.Config) {
			c.Log, c.Privacy = zerolog.New(&log).Level(zerolog.InfoLevel), privacy
			c.Handlers[alpn.IMAP] = &talker{name: "imap", line: func(_ context.Context, c *mux.Conn, line string) string {
				c.AuthFailed("PLAIN\r\n", "wrong password")
				c.SetIdentity(mux.Identity{Account: "id1", Address: "alice@example.org", Mechanism: "PLAIN", Key: c.Key})
				c.SetReason("said \x1b" + line)
				c.SetReason("again")
				return "ok"
			}}
		})
		addr := b.listen(alpn.Shared)
		cc, key := keyed(t, "imap")
		cc.ServerName = "new\r\nline.\x1b.example.org"
		c := connect(t, addr, cc)
		c.want("hello imap")
		c.send("bye")
		c.want("ok")
		c.Close()
		dial(t, addr).Close()                                    // chatter
		tls.Client(dial(t, addr), clientConfig("x")).Handshake() // chatter
		await.Until(t, "it comes about", func() bool { return len(b.Conns()) == 0 })

		var got map[string]any
		if err := json.Unmarshal([]byte(log.String()), &got); err != nil {
			t.Fatalf("%v: %s", err, log.String())
		}
		if strings.ContainsAny(strings.TrimSpace(log.String()), "\r\n\x1b") {
			t.Errorf("control characters in %q", log.String())
		}
		want := map[string]any{
			"protocol": "imap", "account": "alice@example.org", "mechanism": "PLAIN", "key": key.String(),
			"reason": "said \x1bbye", "tls": "TLS 1.3", "resumed": false, "login_failures": 1.0,
		}
		if privacy {
			want["account"] = "id1"
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s is %v, want %v", k, got[k], v)
			}
		}
		if _, ok := got["remote"]; ok == privacy {
			t.Errorf("privacy %v: %s", privacy, log.String())
		}
	}
}

// Of a handshake that mux ends, the log says why.
func TestLogOfEndedHandshake(t *testing.T) {
	var log syncBuffer
	b := start(t, limits(mux.Limits{UnauthPerSource: 1}), func(c *mux.Config) { c.Log = zerolog.New(&log) })
	addr := b.listen(alpn.Shared)
	dial(t, addr).Write([]byte{22}) // half open
	await.Until(t, "it comes about", func() bool { return len(b.Conns()) == 1 })
	dial(t, addr)
	await.Until(t, "the reason is logged", func() bool {
		return strings.Contains(log.String(), `"reason":"handshake error: `+mux.ErrCrowded.Error())
	})
}

func TestMetrics(t *testing.T) {
	b := start(t, login)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(b.Collectors()...)
	addr := b.listen(alpn.Shared)
	c := connect(t, addr, clientConfig("imap"))
	c.want("hello imap")
	c.send("alice")
	c.want("ok alice")
	tls.Client(dial(t, addr), clientConfig("x")).Handshake()
	unknown := clientConfig("imap")
	unknown.ServerName = "evil.test"
	tls.Client(dial(t, addr), unknown).Handshake()
	garbage := dial(t, addr)
	io.WriteString(garbage, "GET / HTTP/1.1\r\n\r\n")
	wantGone(t, garbage, 5*time.Second)
	await.Until(t, "it comes about", func() bool { return len(b.Conns()) == 1 })

	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"posthorn_connections imap authenticated":           1,
		"posthorn_handshakes_total ok":                      1,
		"posthorn_handshakes_total no_application_protocol": 1,
		"posthorn_handshakes_total unrecognized_name":       1,
		"posthorn_handshakes_total garbage":                 1,
		"posthorn_logins_total PLAIN ok":                    1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if got["posthorn_bytes_total in"] < 1000 || got["posthorn_bytes_total out"] < 1000 {
		t.Errorf("bytes: %v", got)
	}
}
