package webtransport_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/client/webtransport"
	"posthorn/mux/muxtest"
	"posthorn/webstream"
)

// websocket dials a server that upgrades, and does with the WebSocket what serve
// does. Both are in memory, for tests on a clock that only waiting moves.
func websocket(t *testing.T, serve func(net.Conn)) net.Conn {
	t.Helper()
	pair := muxtest.KeyPair(t, host)
	var served sync.WaitGroup
	t.Cleanup(served.Wait)
	d := trusting(t, pair)
	d.Mode = webtransport.WebSocket
	d.DialContext = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		served.Go(func() {
			defer far.Close()
			// Tickets come behind the handshake, when nobody reads.
			tc := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true})
			r, err := http.ReadRequest(bufio.NewReader(tc))
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(tc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
				"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: imap\r\n\r\n", webstream.AcceptKey(r.Header.Get("Sec-WebSocket-Key")))
			serve(webstream.Server(tc))
		})
		return near, nil
	}
	nc, err := d.Dial(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// Close breaks a Write to somebody who does not read, at once.
func TestCloseBreaksWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		nc := websocket(t, func(net.Conn) { <-release })
		defer close(release)
		ended := make(chan error, 1)
		go func() {
			_, err := nc.Write(make([]byte, 1<<20))
			ended <- err
		}()
		synctest.Wait()
		began := time.Now()
		nc.Close()
		if err := <-ended; err == nil || time.Since(began) != 0 {
			t.Errorf("%v, after %v", err, time.Since(began))
		}
	})
}

// A Write beyond its deadline is the last one: who knows what of it went out.
func TestNoWriteAfterHalfAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		nc := websocket(t, func(net.Conn) { <-release })
		defer nc.Close()
		defer close(release)
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := nc.Write(make([]byte, 1<<10))
		if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(n, err)
		}
		nc.SetWriteDeadline(time.Time{})
		if _, again := nc.Write([]byte("x")); again == nil {
			t.Error("written after", err)
		}
	})
}

// What is written comes in order and whole, pings from the other side in between.
func TestWritesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 300 << 10
		got := make(chan error, 1)
		nc := websocket(t, func(c net.Conn) {
			c.(*webstream.WebSocket).KeepAlive(time.Millisecond)
			b := make([]byte, size)
			_, err := io.ReadFull(c, b)
			for i := range b {
				if b[i] != byte(i>>8) && err == nil {
					err = fmt.Errorf("octet %d is %d", i, b[i])
				}
			}
			got <- err
			c.Close()
		})
		reading := make(chan struct{})
		go func() { io.Copy(io.Discard, nc); close(reading) }() // answers the pings
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(i >> 8)
		}
		for n := 0; n < size; {
			m := min(1+n/3, size-n)
			if _, err := nc.Write(b[n : n+m]); err != nil {
				t.Fatal(err)
			}
			n += m
			time.Sleep(time.Millisecond) // for a ping
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
		<-reading
		nc.Close()
	})
}
