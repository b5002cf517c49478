package webtransport

import (
	"context"
	"net"
	"net/http"
	"net/url"

	"posthorn/webstream"
)

// contentType is that of the octets, both ways.
const contentType = "application/octet-stream"

// openStream opens a stream on a connection that speaks HTTP/2.
func (t *target) openStream(ctx context.Context, tc *outer) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { tc.SetDeadline(longAgo) })
	s, status, err := webstream.Open(tc, &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: t.path}, Host: t.host(),
		Header: http.Header{"Content-Type": {contentType}},
	})
	switch {
	case !stop():
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case status != http.StatusOK:
		return nil, &StatusError{status}
	}
	s.KeepAlive(t.ping())
	if s.Roomy() {
		return s, nil
	}
	return readAhead(s), nil
}
