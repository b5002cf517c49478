package sites

import (
	"net/http"
	"strconv"
	"time"
)

// answer is the way of a response from the site to the client.
type answer struct {
	http.ResponseWriter
	door  *Door
	r     *http.Request
	body  *body  // nil: the request has none, or nobody is to read it
	pace  *pace  // of the response; nil: mux sees to it
	left  int64  // octets of the response that are to come; negative: nobody knows
	last  bool   // the connection ends with this response in any case
	leave func() // called when all is over; nil: somebody else does
}

// pieceSize is what is written to a client of HTTP/2 at a time, which has to
// take that much at Limits.MinRate. It is a frame.
const pieceSize = 16 << 10

// drainTime is how long a client may go on sending what nobody reads, before
// its connection is closed.
const drainTime = 5 * time.Second

func newAnswer(w http.ResponseWriter, r *http.Request, d *Door, leave func()) *answer {
	a := &answer{ResponseWriter: w, door: d, r: r, left: -1, leave: leave}
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{})
	if r.ProtoMajor == 1 {
		a.last = EndsConnection(r)
	} else {
		// A stream may have no window while its connection is alive and well.
		a.pace = newPace(d.Conn.MinRate(), pieceSize, func() { _ = rc.SetWriteDeadline(longAgo) })
	}
	return a
}

// takeBody prepares for reading the request's body, if there is one, while the
// response is under way.
func (a *answer) takeBody() {
	if a.r.ContentLength == 0 { // negative: nobody knows
		return
	}
	rc := http.NewResponseController(a.ResponseWriter)
	_ = rc.EnableFullDuplex()
	_ = rc.SetReadDeadline(time.Time{})
	a.body = &body{ReadCloser: a.r.Body, request: a.r, trailer: announced(a.r)}
	a.body.pace = newPace(a.door.Conn.MinRate(), 0, func() { _ = rc.SetReadDeadline(longAgo) })
}

// ends reports whether the connection ends with the response, whose head is about to
// be written. With a body that is read meanwhile, net/http leaves it to us to see
// that what is left of it is not taken for the next request, and does not survive
// reading that itself (golang/go#68560).
func (a *answer) ends() bool {
	return a.last || a.r.ProtoMajor == 1 && a.unread()
}

// unread reports whether the request's body has not been read to its end.
func (a *answer) unread() bool { return a.body != nil && !a.body.end.Load() }

var longAgo = time.Unix(1, 0)

// request returns the request with its body watched.
func (a *answer) request() *http.Request {
	if a.body == nil {
		return a.r
	}
	r := *a.r // net/http looks at the Body of its own
	r.Body = a.body
	return &r
}

// done is called when the response is complete, or will not be.
func (a *answer) done() {
	if a.leave != nil {
		defer a.leave()
	}
	if a.pace != nil {
		a.pace.end()
	}
	if a.body == nil {
		return
	}
	a.body.pace.end()
	if a.r.ProtoMajor == 1 && a.unread() {
		// http.Transport may be reading still, on behalf of a site that has
		// answered. net/http would end that, and lift the deadline with it.
		rc := http.NewResponseController(a.ResponseWriter)
		_ = rc.SetReadDeadline(longAgo)
		a.body.stop()
		_ = rc.SetReadDeadline(time.Now().Add(drainTime))
	}
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if status < 200 {
		a.inform(status)
		return
	}
	h := a.Header()
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http would guess one
	}
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil {
		a.left = n
	}
	if a.ends() {
		h.Set("Connection", "close")
	}
	a.ResponseWriter.WriteHeader(status)
}

// inform passes an informational response on (RFC 9110 section 15.2). While there
// is a body to read, net/http sends 100 Continue by itself: on HTTP/2 only if
// nothing else went before, and on HTTP/1 regardless of who else is writing.
func (a *answer) inform(status int) {
	switch {
	case !a.r.ProtoAtLeast(1, 1): // which has none
	case a.body == nil, a.r.ProtoMajor == 1 && status == http.StatusContinue:
		a.ResponseWriter.WriteHeader(status)
	}
}

// Write implements io.Writer. Nothing stays behind in buffers while more is to
// come.
func (a *answer) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var m int
		m, err = a.write(p)
		n, p = n+m, p[m:]
	}
	if a.left -= int64(n); err == nil && a.left != 0 {
		err = a.FlushError()
	}
	return n, err
}

func (a *answer) write(p []byte) (n int, err error) {
	if a.pace == nil {
		return a.ResponseWriter.Write(p)
	}
	a.pace.wait()
	n, err = a.ResponseWriter.Write(p[:min(len(p), pieceSize)])
	a.pace.got(n)
	return n, err
}

// FlushError is for http.ResponseController.
func (a *answer) FlushError() error {
	if a.pace != nil {
		a.pace.wait()
		defer a.pace.got(0)
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// refuse answers in the site's place.
func (a *answer) refuse(status int) {
	clear(a.Header())
	if a.ends() {
		a.Header().Set("Connection", "close")
	}
	a.door.Refuse(a.ResponseWriter, a.r, status)
}
