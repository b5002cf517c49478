package acme

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
)

const (
	requestTimeout = 30 * time.Second
	maxResponse    = 1 << 20
	// pollEvery is how long autocert waits between polls when the CA does not
	// say. It cannot be interrupted while it waits.
	pollEvery = time.Second
)

// RoundTrip implements http.RoundTripper. It ends with the attempt, whatever
// context autocert made for the request, and notes what went wrong.
func (a *attempt) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	if a.ctx.Err() != nil {
		return nil, errOver
	}
	res, err := a.client.transport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		a.note(func(h *heard) { h.unreachable(err) })
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxResponse))
	if err != nil {
		a.note(func(h *heard) { h.unreachable(err) })
		return nil, err
	}
	a.note(func(h *heard) { h.response(res, body) })
	a.pace(res)
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

func (a *attempt) note(f func(*heard)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.failure)
}

// pace waits as long as the CA wants polls to be apart, in place of autocert,
// which would not stop waiting when the attempt ends.
func (a *attempt) pace(res *http.Response) {
	wait := retryAfter(res.Header, time.Now())
	if res.StatusCode >= 300 || wait <= pollEvery {
		return
	}
	res.Header.Del("Retry-After")
	t := time.NewTimer(wait - pollEvery)
	defer t.Stop()
	select {
	case <-a.ctx.Done():
	case <-res.Request.Context().Done():
	case <-t.C:
	}
}

// heard is what a CA said that explains why there is no certificate.
type heard struct {
	refused    []error // problems that the CA has with the name or the account
	down       error   // the last way in which the CA was out of reach or order
	retryAfter time.Duration
	chain      [][]byte
}

func (h *heard) unreachable(err error) {
	if !errors.Is(err, context.Canceled) {
		h.down = err
	}
}

// problem is a problem document (RFC 8555 section 6.7).
type problem struct {
	Type   string
	Detail string
}

func (p *problem) err(status int) error {
	return &acme.Error{StatusCode: status, ProblemType: p.Type, Detail: p.Detail}
}

// response looks at an answer of the CA: a problem document, or an authorization
// or order that has failed.
func (h *heard) response(res *http.Response, body []byte) {
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/pem-certificate-chain") {
		h.chain = blocks(body, "CERTIFICATE")
		return
	}
	if res.StatusCode < 400 {
		h.status(body)
		return
	}
	p := &problem{}
	if json.Unmarshal(body, p) != nil || p.Type == "" {
		p = &problem{Detail: http.StatusText(res.StatusCode)}
	}
	limited := res.StatusCode == http.StatusTooManyRequests || strings.HasSuffix(p.Type, ":rateLimited")
	switch {
	case strings.HasSuffix(p.Type, ":badNonce"):
	case res.StatusCode >= 500 || limited && p.Type == "":
		// Not about the name: a load balancer or a CA under maintenance.
		h.down = p.err(res.StatusCode)
		h.retryAfter = max(h.retryAfter, retryAfter(res.Header, time.Now()))
	default:
		h.refused = append(h.refused, p.err(res.StatusCode))
		h.retryAfter = max(h.retryAfter, retryAfter(res.Header, time.Now()))
	}
}

// status notes why an authorization or an order is invalid.
func (h *heard) status(body []byte) {
	var object struct {
		Status     string
		Error      *problem
		Challenges []struct {
			Type  string
			Error *problem
		}
	}
	if json.Unmarshal(body, &object) != nil || object.Status != acme.StatusInvalid {
		return
	}
	if object.Error != nil && len(object.Challenges) == 0 {
		h.refused = append(h.refused, object.Error.err(0))
	}
	for _, c := range object.Challenges {
		if c.Error != nil {
			h.refused = append(h.refused, fmt.Errorf("%s: %w", c.Type, c.Error.err(0)))
		}
	}
}

// failure sums up why there is no certificate for key.
func (h *heard) failure(key crypto.Signer) *Failure {
	switch {
	case len(h.refused) > 0:
		return &Failure{Err: errors.Join(h.refused...), Refused: true, RetryAfter: h.retryAfter}
	case h.down != nil:
		return &Failure{Err: h.down, RetryAfter: h.retryAfter}
	case h.chain != nil && !isFor(h.chain[0], key):
		return &Failure{Err: fmt.Errorf("%w: a certificate for another key", ErrUnusable)}
	case h.chain != nil:
		return &Failure{Err: fmt.Errorf("%w: a certificate for another name or time", ErrUnusable)}
	}
	return &Failure{Err: ErrUnusable}
}

func isFor(der []byte, key crypto.Signer) bool {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return false
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(c.PublicKey)
}

// retryAfter reads a Retry-After field (RFC 9110 section 10.2.3); zero: there is
// none, or none that makes sense.
func retryAfter(h http.Header, now time.Time) time.Duration {
	const longest = 7 * 24 * time.Hour // the longest window of a limit that CAs have
	v := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(v, 10, 64); err == nil {
		return time.Duration(min(max(seconds, 0), int64(longest/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), longest)
	}
	return 0
}
