package splice_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"posthorn/mux"
	"posthorn/splice"
)

// A link without a goodbye may be over before it hears that its context is.
func TestEndsBeforeItsContextIsHeard(t *testing.T) {
	for _, cover := range []bool{false, true} {
		e := newEdge(t, options{cover: cover, link: func(l *splice.Link) { l.SetLinger(patience) }})
		for range 50 {
			j := e.join()
			write(t, j.client, "hello\r\n")
			read(t, j.server, "hello\r\n")
			closeWrite(t, j.server)
			readEnd(t, j.r, "")
			e.Close(nil, mux.ErrRevoked)
			readEnd(t, j.server, "")
			j.client.Close()
			e.result(mux.ErrRevoked)
		}
	}
}

// Shutdown closes a connection whose link is about to say goodbye. Nothing orders
// what both then do, so that the race detector sees it; hence the rounds.
func TestClosedBeforeGoodbye(t *testing.T) {
	for range 10 {
		ctx, giveUp := context.WithCancel(context.Background())
		defer giveUp()
		var j *joined
		e := newEdge(t, options{link: func(l *splice.Link) {
			l.Goodbye = func(cause error, last []byte) []byte {
				giveUp()
				_, _ = io.Copy(io.Discard, j.r) // until the connection is closed
				return goodbye(cause, last)
			}
		}})
		j = e.join()
		j.talk()
		e.park()
		if err := e.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown: %v", err)
		}
		e.result(mux.ErrDraining)
	}
}

// However little time a way has before it parks, it leaves nothing behind that
// nobody would be woken for: TLS, and what was unread, are no socket.
func TestParksWithNothingRead(t *testing.T) {
	e := newEdge(t, options{link: func(l *splice.Link) {
		l.Client.(*mux.Conn).Unread([]byte("before "))
		l.SetLinger(1)
	}})
	j := e.join()
	read(t, j.server, "before ")
	const lines = 100 // of a record each, in one segment or two
	line := []byte("a NOOP\r\n")
	go func() {
		for range lines {
			if _, err := j.client.Write(line); err != nil {
				t.Error(err)
			}
		}
	}()
	read(t, j.server, string(bytes.Repeat(line, lines)))
	j.talk()
}
