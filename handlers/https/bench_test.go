package https_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthorn/handlers/https"
	"posthorn/handlers/https/sites"
)

const page1K = 1 << 10

// plainSite answers every request with 1 KiB, for as little as can be.
func plainSite(b *testing.B) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", page1K))
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						c.Write(answer)
					}
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// BenchmarkSite fetches 1 KiB over a connection that stays, from a handler of
// the gateway, from a site behind and from a folder. CPU is that of client,
// gateway and site.
func BenchmarkSite(b *testing.B) {
	own := strings.Repeat("x", page1K)
	for _, path := range []string{"/own", "/site", "/files/1k.txt"} {
		b.Run(strings.Split(path, "/")[1], func(b *testing.B) {
			g := start(b, func(s *https.Server) {
				all, err := sites.New([]sites.Site{
					{Upstream: &sites.Upstream{URL: plainSite(b)}},
					{Path: "/files/", Folder: folderOf(b, map[string]string{"1k.txt": own})},
				}, s.Log)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(all.Close)
				s.Sites = all
				s.Mount("/own", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, own) }))
			})
			c, err := tls.Dial("tcp", g.addr, &tls.Config{ServerName: serverName, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			request := []byte("GET " + path + " HTTP/1.1\r\nHost: " + serverName + "\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
			br := bufio.NewReader(c)
			before := cpu()
			b.ReportAllocs()
			for b.Loop() {
				c.Write(request)
				length := -1
				for {
					line, err := br.ReadSlice('\n')
					if err != nil {
						b.Fatal(err)
					}
					if len(line) == 2 {
						break
					}
					if bytes.HasPrefix(line, []byte("Content-Length: 1024")) {
						length = page1K
					}
				}
				if _, err := br.Discard(length); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
