package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"time"

	"posthorn/alpn"
	"posthorn/client/webtransport"
)

// Class is in which way a route failed.
type Class string

const (
	Refused     Class = "refused"              // the port is closed, or says so
	Unreachable Class = "unreachable"          // there is no way to the address
	Unresolved  Class = "name not found"       // the name has no address here
	Silence     Class = "no answer"            // a black hole: the deadline passed
	Reset       Class = "reset"                // the connection was reset
	Closed      Class = "closed"               // the connection ended without a word
	Alerted     Class = "alert"                // TLS was refused, see RouteError.Alert
	HTTP        Class = "http"                 // HTTP where TLS or mail should be: a captive portal, a block page
	NotTLS      Class = "not tls"              // neither TLS nor HTTP
	Certificate Class = "certificate"          // the certificate is not the gateway's: somebody re-signs
	NoECH       Class = "no ech"               // there is no ECH configuration, or it was rejected
	ProxyFault  Class = "proxy"                // the proxy refuses, see RouteError.Status
	NoTransport Class = "no web transport"     // HTTPS without the transport, see RouteError.Status
	Protocol    Class = "protocol error"       // TLS or the web transport, in other ways
	Greeting    Class = "wrong greeting"       // somebody else's greeting, or that of a gateway that will not serve
	Lost        Class = "lost during login"    // the connection ended after the greeting
	Overtaken   Class = "another was faster"   // no failure: a race's loser
	NotAsked    Class = "key not asked for"    // a valid certificate, but no gateway: somebody inspects who may
	Misdirected Class = "protocol not offered" // TLS succeeded without the ALPN that was asked for
)

// Step is how far a route came.
type Step string

const (
	Connecting  Step = "connect"   // name, TCP, proxy
	Handshaking Step = "handshake" // TLS
	Greeted     Step = "greeting"  // the protocol's first line
	LoggingIn   Step = "login"
)

// RouteError is why a route failed.
type RouteError struct {
	Route Route
	Step  Step
	Class Class
	// Alert is the TLS alert that came (RFC 8446 section 6), when Class is
	// Alerted.
	Alert uint8
	// Status is the HTTP status of a proxy that refuses, 0 with SOCKS; or that in
	// place of the web transport.
	Status int
	// Received is how many octets came before the end.
	Received int64
	After    time.Duration
	Times    Times
	Err      error
}

// Error implements error. It is one line.
func (e *RouteError) Error() string {
	return fmt.Sprintf("%s: %s (%s, %v)", e.Route, e.Reason(), e.Step, e.After.Round(time.Millisecond))
}

// Reason says in a few words what happened.
func (e *RouteError) Reason() string {
	s := string(e.Class)
	switch e.Class {
	case Reset, Closed, Silence:
		if e.Step == Handshaking && e.Received == 0 {
			return s + " after the ClientHello"
		}
		if e.Received > 0 {
			return fmt.Sprintf("%s after %d octets", s, e.Received)
		}
		return s
	case Refused, Overtaken:
		return s
	}
	return s + ": " + oneLine(e.Err.Error())
}

// Unwrap returns the error that it was.
func (e *RouteError) Unwrap() error { return e.Err }

// oneLine makes what strangers wrote fit for terminals and logs.
func oneLine(s string) string {
	const longest = 300
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200e && r <= 0x202e {
			return ' '
		}
		return r
	}, s)
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}

// DialError says that no route leads to a protocol of a gateway, and why each of
// them does not, in the order in which they failed.
type DialError struct {
	Host     string
	Protocol alpn.Protocol
	Routes   []*RouteError
}

// Error lists every route, a line for each.
func (e *DialError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no route to %s for %s", e.Host, e.Protocol)
	for _, r := range e.Routes {
		b.WriteString("\n" + r.Error())
	}
	return b.String()
}

// Unwrap returns the routes' errors.
func (e *DialError) Unwrap() []error {
	all := make([]error, len(e.Routes))
	for i, r := range e.Routes {
		all[i] = r
	}
	return all
}

// Errors that are classes of their own.
var (
	errPin       = errors.New("the certificate's key is none of those that are pinned")
	errNoALPN    = errors.New("the server does not say that it speaks the protocol")
	errHTTP      = errors.New("an HTTP server answers")
	errGreeting  = errors.New("not the protocol's greeting")
	errUnasked   = errors.New("the server says that somebody is logged in, without having seen a key")
	errNotAsked  = errors.New("who ends TLS here asks for no key, as the gateway does")
	errNoECH     = errors.New("no ECH configuration is known")
	errTooLong   = errors.New("the greeting does not end")
	errOvertaken = errors.New("another route was faster")
)

// classify says in which way a route failed at a step.
func (e *RouteError) classify() {
	var rejected *tls.ECHRejectionError
	var unverified *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var proxied *ProxyError
	var name *net.DNSError
	var status *webtransport.StatusError
	err := e.Err
	switch {
	case errors.Is(err, errOvertaken):
		e.Class = Overtaken
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		e.Class = Silence
	case errors.As(err, &proxied):
		e.Class, e.Status = ProxyFault, proxied.Status
	case errors.As(err, &status):
		e.Class, e.Status = NoTransport, status.Code
	case errors.As(err, &name):
		e.Class = Unresolved
	case errors.As(err, &rejected), errors.Is(err, errNoECH):
		e.Class = NoECH
	case errors.As(err, &unverified), errors.Is(err, errPin):
		e.Class = Certificate
	case errors.As(err, &record):
		e.Class = NotTLS
		if looksLikeHTTP(record.RecordHeader[:]) {
			e.Class = HTTP
		}
	case errors.Is(err, errHTTP):
		e.Class = HTTP
	case errors.Is(err, errNotAsked):
		e.Class = NotAsked
	case errors.Is(err, errNoALPN):
		e.Class = Misdirected
	case errors.Is(err, errGreeting), errors.Is(err, errUnasked), errors.Is(err, errTooLong):
		e.Class = Greeting
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Class = Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.Class = Unreachable
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.Class = Reset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		e.Class = Closed
	default:
		if alert, ok := alertOf(err); ok {
			e.Class, e.Alert = Alerted, alert
			return
		}
		e.Class = Protocol
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// alertOf finds the alert that a peer sent. crypto/tls has an exported type for
// QUIC's alone; the other one is a number as well.
func alertOf(err error) (uint8, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return 0, false
	}
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		return uint8(v.Uint()), true
	}
	return 0, false
}

// looksLikeHTTP reports whether octets begin as an HTTP response or a page does.
func looksLikeHTTP(b []byte) bool {
	s := strings.ToLower(string(b))
	return strings.HasPrefix(s, "http/") || strings.HasPrefix(s, "<html") || strings.HasPrefix(s, "<!doc")
}
