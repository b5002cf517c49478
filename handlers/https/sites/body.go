package sites

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
)

// body is a request's body on its way to the site.
type body struct {
	io.ReadCloser
	request *http.Request
	trailer http.Header // for the site; filled in at the end
	pace    *pace
	err     atomic.Pointer[error] // of reading, other than io.EOF
	end     atomic.Bool           // it has been read to its end

	reading sync.Mutex // held while somebody reads, and guards over
	over    bool       // nobody is to read any more
}

func (b *body) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if b.over {
		return 0, http.ErrBodyReadAfterClose
	}
	b.pace.wait()
	n, err := b.ReadCloser.Read(p)
	b.pace.got(n)
	switch {
	case err == io.EOF:
		for name := range b.trailer {
			b.trailer[name] = b.request.Trailer[name]
		}
		b.end.Store(true)
	case err != nil:
		b.err.Store(&err)
	}
	return n, err
}

// stop returns when nobody reads the body any more; a read under way must have been
// ended, by a deadline.
func (b *body) stop() {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.over = true
}

// status is that of a request whose body could not be read; 0: it could.
func (b *body) status() int {
	switch err := b.err.Load(); {
	case err == nil:
		return 0
	case errors.Is(*err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout
	default:
		return http.StatusBadRequest
	}
}

// announced returns the trailer fields that the client has announced and the
// site may hear of. Those that come unannounced are dropped.
func announced(r *http.Request) http.Header {
	var names http.Header
	for name := range r.Trailer {
		if !forged(name) {
			if names == nil {
				names = make(http.Header, len(r.Trailer))
			}
			names[name] = nil
		}
	}
	return names
}
