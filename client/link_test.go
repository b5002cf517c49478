package client_test

import (
	"net"
	"sync"
	"time"
)

// link is both ends of a connection in memory, a round trip apart. What is under
// way is kept, so that both sides may write at once. Its goroutines end with it.
func link(work *sync.WaitGroup, rtt time.Duration) (near, far net.Conn) {
	near, hither := net.Pipe()
	thither, far := net.Pipe()
	delay(work, thither, hither, rtt/2)
	delay(work, hither, thither, rtt/2)
	return near, far
}

// delay carries one direction of a connection, however much is under way.
func delay(work *sync.WaitGroup, to, from net.Conn, d time.Duration) {
	type packet struct {
		octets []byte
		due    time.Time
	}
	packets := make(chan packet, 1000)
	work.Go(func() {
		defer close(packets)
		for {
			b := make([]byte, 16<<10)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			packets <- packet{b[:n], time.Now().Add(d)}
		}
	})
	work.Go(func() {
		for p := range packets {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.octets); err != nil {
				from.Close()
			}
		}
		to.Close()
	})
}
