package smtp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"posthorn/mux"
)

var (
	// errBadEnd says that a line did not end in CRLF, or had a CR in it.
	errBadEnd = errors.New("line does not end in CRLF")
	// errControl says that a line has a control character in it.
	errControl = errors.New("control character in line")
	// errLongLine says that a line is longer than the limit.
	errLongLine = errors.New("line too long")
)

// wire is the client's side of a conversation. It reads command lines and
// message octets, gathers replies until the client has to be waited for
// (RFC 2920 section 3.2), and says 421 between two replies when the
// connection's context ends. One goroutine uses it; goodbye runs on another.
type wire struct {
	ctx     context.Context
	conn    link
	maxLine int
	in      *bufio.Reader
	out     []byte // replies that wait for the next read

	mu      sync.Mutex // guards what follows
	waiting bool       // the one goroutine is in conn.Read
	inside  bool       // a message is being read
	over    bool       // nothing is read or written any more
	reason  string     // why it is over, for the log
}

// link is what a wire needs of a *mux.Conn.
type link interface {
	net.Conn
	OwesData(bool)
}

func newWire(ctx context.Context, conn link, maxLine int) *wire {
	w := &wire{ctx: ctx, conn: conn, maxLine: maxLine}
	w.in = bufio.NewReader(source{w})
	return w
}

// source is the octets of a wire, below its buffer.
type source struct{ *wire }

// Read sends the waiting replies, and then waits for the client: whoever
// pipelines hears everything before being waited for, and in one segment.
func (s source) Read(p []byte) (int, error) {
	w := s.wire
	w.flush()
	if !w.wait() {
		return 0, io.EOF
	}
	n, err := w.conn.Read(p)

	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = false
	cause := context.Cause(w.ctx)
	switch {
	case w.over: // goodbye was said meanwhile: what came in has no effect
		return 0, io.EOF
	case err == nil:
	case errors.Is(err, io.EOF):
		w.end("closed by client")
	case cause != nil: // of the error too: mux fails reads then
		w.bye(cause)
	default: // err would show addresses
		w.end("connection lost")
	}
	return n, err
}

// wait reports whether the client is to be waited for.
func (w *wire) wait() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = true
	w.leave()
	return !w.over
}

// setInside says whether a message is being read. A drain lets it finish; a
// client that dawdles does not.
func (w *wire) setInside(inside bool) {
	w.conn.OwesData(inside)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inside = inside
}

// readLine returns the next line without its CRLF. The line may only be used
// when there is no error; after one, the rest of the input means nothing.
func (w *wire) readLine() (string, error) {
	var line []byte
	for {
		part, err := w.in.ReadSlice('\n')
		if len(line)+len(part) > w.maxLine {
			return "", errLongLine
		}
		line = append(line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
	return checkLine(line)
}

// checkLine takes the CRLF off a line and refuses one that another reader
// might take for two, or that could garble a log.
func checkLine(line []byte) (string, error) {
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok || strings.ContainsAny(text, "\r\n") {
		return "", errBadEnd
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return "", errControl
	}
	return text, nil
}

// reply queues whole lines, complete with their ends.
func (w *wire) reply(text string) { w.out = append(w.out, text...) }

// flush sends what waits. An error shows at the next read.
func (w *wire) flush() {
	if len(w.out) == 0 {
		return
	}
	w.mu.Lock()
	over := w.over
	w.mu.Unlock()
	if !over {
		w.conn.Write(w.out)
	}
	w.out = w.out[:0]
}

// watch has goodbye said when the context ends, until stop is called, which
// reports whether that was in time, and else waits until it is said.
func (w *wire) watch() (stop func() (inTime bool)) {
	said := make(chan struct{})
	cancel := context.AfterFunc(w.ctx, func() {
		defer close(said)
		w.goodbye()
	})
	return sync.OnceValue(func() bool {
		inTime := cancel()
		if !inTime {
			<-said
		}
		return inTime
	})
}

// goodbye ends the conversation because the context has ended: at once when
// the client is being waited for, else before the next wait.
func (w *wire) goodbye() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leave()
}

// leave says 421 if it is time to. The caller holds mu.
func (w *wire) leave() {
	cause := context.Cause(w.ctx)
	if cause == nil || !w.waiting || w.inside && errors.Is(cause, mux.ErrDraining) {
		return
	}
	w.bye(cause)
}

// bye says 421 and ends a pending Read. The caller holds mu, and nothing else
// writes.
func (w *wire) bye(cause error) {
	if w.over {
		return
	}
	w.end(cause.Error())
	io.WriteString(w.conn, goodbyeReply(cause))
	w.conn.SetReadDeadline(time.Unix(1, 0))
}

// end notes why it is over; the first reason counts. The caller holds mu.
func (w *wire) end(reason string) {
	if !w.over {
		w.over, w.reason = true, reason
	}
}

// close sends what waits; nothing is read or written any more. The connection
// is mux's to close.
func (w *wire) close(reason string) {
	w.flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(reason)
}
