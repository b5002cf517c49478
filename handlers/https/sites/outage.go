package sites

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// fail answers a request in the site's place.
func (s *proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	a := w.(*answer)
	if a.body != nil {
		if status := a.body.status(); status != 0 {
			a.refuse(status)
			return
		}
	}
	if r.Context().Err() != nil { // the client is gone
		panic(http.ErrAbortHandler)
	}
	s.outage.note(err)
	if isTimeout(err) {
		a.refuse(http.StatusGatewayTimeout)
		return
	}
	a.refuse(http.StatusBadGateway)
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// outage keeps the log short while the site is down.
type outage struct {
	log      zerolog.Logger
	upstream string

	mu    sync.Mutex // guards what follows
	noted time.Time  // when the last line was written
	more  int        // failures since then
}

// outageInterval is the time between two lines about a site that is down.
const outageInterval = time.Minute

// note logs that a request failed, now or with the next ones.
func (o *outage) note(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); o.noted.IsZero() || now.Sub(o.noted) >= outageInterval {
		o.log.Warn().Str("upstream", o.upstream).Str("reason", reason(err)).Int("more", o.more).Msg("the site does not answer")
		o.noted, o.more = now, 0
		return
	}
	o.more++
}

// reason is what went wrong, in words that quote neither client nor site.
func reason(err error) string {
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case ok && op.Op == "dial":
		return "connect: " + op.Err.Error()
	case isTimeout(err):
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed before the end of a response"
	case ok:
		return op.Op + ": " + op.Err.Error()
	}
	return "no proper response"
}

// silent is where httputil's notes go: the client sees what they are about, and
// they quote both sides.
func (o *outage) silent() *log.Logger { return log.New(io.Discard, "", 0) }
