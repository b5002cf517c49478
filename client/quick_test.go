package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"posthorn/alpn"
	"posthorn/certs/ech"
	"posthorn/client"
	"posthorn/client/clienttest"
	"posthorn/mux"
	"posthorn/mux/muxtest"
)

// far is a gateway behind pipes, a round trip away, for tests on a clock that
// only waiting moves. Nothing but the shared port is open.
type far struct {
	rtt       time.Duration
	dedicated clienttest.Verdict // of port 993
	carrying  sync.WaitGroup     // links
	*clienttest.Pipes
}

func (f *far) dial(ctx context.Context, _, address string) (net.Conn, error) {
	open := address == host+":443"
	if !open && f.dedicated == clienttest.BlackHole {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	select {
	case <-time.After(f.rtt):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !open {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	client, gateway := link(&f.carrying, f.rtt)
	if err := f.Deliver(ctx, gateway); err != nil {
		client.Close()
		gateway.Close()
		return nil, err
	}
	return client, nil
}

// greeter greets, and waits for the client to go.
type greeter struct{}

func (greeter) Busy() []byte { return nil }

func (greeter) ServeConn(_ context.Context, c *mux.Conn) {
	fmt.Fprint(c, "* OK [CAPABILITY IMAP4rev1 AUTH=EXTERNAL] hello\r\n")
	io.Copy(io.Discard, c)
}

// TestRaceIsQuick: who wins is there within a round trip of what the route takes
// by itself, and the head start of those before it.
func TestRaceIsQuick(t *testing.T) {
	const rtt, stagger = 100 * time.Millisecond, 250 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		key, ca := must(client.NewIdentity(client.ECDSA, "")), clienttest.NewAuthority(t, "CA")
		list := ech.List(must(ech.Generate(1, publicName, 40)))
		f := &far{rtt: rtt, Pipes: clienttest.NewPipes()}
		server := mux.New(mux.Config{
			Handlers: map[alpn.Protocol]mux.Handler{alpn.IMAP: greeter{}}, Log: zerolog.Nop(),
			Certs: muxtest.Certificates{Pair: ca.Issue(host, publicName, "imap.example.org")},
		})
		served := make(chan error, 1)
		go func() { served <- server.Serve(context.Background(), f, alpn.Shared) }()
		defer func() {
			if err := server.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
			f.carrying.Wait()
		}()
		dialer := func(edit ...func(*client.Config)) *client.Dialer {
			c := client.Config{
				Host: host, Identity: key, RootCAs: clienttest.Pool(ca), ECHConfigList: list,
				DialContext: f.dial, Proxy: client.FixedProxy(nil),
			}
			for _, e := range edit {
				e(&c)
			}
			return must(client.New(c))
		}
		dial := func(d *client.Dialer) time.Duration {
			began := time.Now()
			c, err := d.Dial(t.Context(), alpn.IMAP)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.Route.Kind != client.ALPN {
				t.Errorf("by %s", c.Route)
			}
			return time.Since(began)
		}
		alone := dial(dialer(only(client.ALPN)))
		if alone != 3*rtt { // TCP, TLS, and the greeting behind our last flight
			t.Errorf("alone: %v", alone)
		}
		f.dedicated = clienttest.Refuse
		if got := dial(dialer()); got > alone+rtt {
			t.Errorf("behind a closed port: %v, alone %v", got, alone)
		}
		f.dedicated = clienttest.BlackHole
		known := dialer()
		if got := dial(known); got > alone+stagger {
			t.Errorf("behind a black hole: %v, alone %v", got, alone)
		}
		if got := dial(known); got != alone {
			t.Errorf("once it is known: %v, alone %v", got, alone)
		}
	})
}
