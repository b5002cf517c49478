package backend_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

// BenchmarkOpenIMAP is what a login takes behind the gateway: connection,
// greeting and login at a server on the loopback that does nothing for it.
func BenchmarkOpenIMAP(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go admitAll(c)
		}
	}()
	b.Cleanup(func() {
		ln.Close()
		<-done
	})
	p := proxy(b, ln.Addr().String(), master)
	l, c := loginOf(alice), clientOf()
	b.ReportAllocs()
	for b.Loop() {
		session, err := p.OpenIMAP(context.Background(), l, c)
		if err != nil {
			b.Fatal(err)
		}
		session.Close()
	}
}

// admitAll takes every login on a connection.
func admitAll(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 512)
	if _, err := io.WriteString(c, greeting); err != nil {
		return
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(string(line), "p2 ") {
			if _, err := io.WriteString(c, loggedIn); err != nil {
				return
			}
		}
	}
}
