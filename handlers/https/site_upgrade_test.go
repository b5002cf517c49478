package https_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"

	"posthorn/await"
)

// TestUpgrade passes a custom protocol both ways, with the end of either direction
// and octets that come too early.
func TestUpgrade(t *testing.T) {
	site := serveSite(t, "unix", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Site: yes\r\n\r\nearly ", r.Header.Get("Upgrade"))
		rw.Flush()
		b, _ := io.ReadAll(rw)
		c.Write(bytes.ToUpper(b))
	}))
	g := putBehind(t, site, nil)
	for _, proto := range []string{"http/1.1", ""} {
		var protos []string
		if proto != "" {
			protos = append(protos, proto)
		}
		c := g.dial(serverName, protos...)
		io.WriteString(c, "GET /relay HTTP/1.1\r\nHost: "+serverName+"\r\nConnection: keep-alive, upgrade\r\nUpgrade: iroh derp http\r\n\r\nfirst, ")
		br := bufio.NewReader(c)
		r, err := http.ReadResponse(br, nil)
		if err != nil || r.StatusCode != 101 || r.Header.Get("Upgrade") != "iroh derp http" || r.Header.Get("X-Site") != "yes" {
			t.Fatalf("got %v, %v", r, err)
		}
		io.WriteString(c, "then more")
		c.CloseWrite()
		if b, err := io.ReadAll(br); err != nil || string(b) != "early FIRST, THEN MORE" {
			t.Errorf("%q: got %q, %v", proto, b, err)
		}
	}
}

// TestUpgradesEndOnDrain: a drain does not wait for what has no end.
func TestUpgradesEndOnDrain(t *testing.T) {
	ended := make(chan error, 1)
	g := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, err = rw.ReadByte()
		ended <- err
	})
	c := g.dial(serverName, "http/1.1")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+serverName+"\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	br := bufio.NewReader(c)
	if r, err := http.ReadResponse(br, nil); err != nil || r.StatusCode != 101 {
		t.Fatal(r, err)
	}
	if err := g.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(br); len(b) > 0 || err != nil {
		t.Errorf("the client reads %q, %v", b, err)
	}
	if err := <-ended; err != io.EOF {
		t.Errorf("the site reads %v", err)
	}
}

// TestQuietUpgrades: connections that have switched and are quiet take no
// goroutine, and give their places back in the end.
func TestQuietUpgrades(t *testing.T) {
	const n = 200
	var mu sync.Mutex
	var ends []net.Conn // the site's, guarded by mu
	g := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		ends = append(ends, c)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	})
	before := runtime.NumGoroutine()
	for round := range 3 { // 512 fit in at a time
		var clients []net.Conn
		for range n {
			c := g.dial(serverName, "http/1.1")
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+serverName+"\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 101 {
				t.Fatalf("round %d: %v, %v", round, r, err)
			}
			clients = append(clients, c)
		}
		await.Until(t, "their goroutines end", func() bool { return runtime.NumGoroutine() <= before+n/10 })
		for i, c := range clients {
			mu.Lock()
			io.WriteString(ends[i], "wake up")
			mu.Unlock()
			b := make([]byte, 7)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "wake up" {
				t.Errorf("got %q, %v", b, err)
			}
			c.Close()
			ends[i].Close()
		}
		await.Until(t, "they are gone", func() bool { return len(g.Conns()) == 0 })
		ends = nil
	}
}
