// Package socket has the sockets of connections that come by the thousand. They
// cost less than package net's, as the scheduler is not told of their system
// calls: none of them waits, so that they are over before it could give the
// processor to others, while its watchman, who looks for those that are not,
// is kept awake by each: a tenth of what a login costs. Elsewhere than on Linux
// they are package net's.
package socket

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// Bare is a connection that is a socket and nothing more.
type Bare interface {
	net.Conn
	syscall.Conn
	CloseWrite() error // FIN
}

// Of returns nc as a Bare; ok is false for whatever is more than a socket, or is
// none.
func Of(nc net.Conn) (b Bare, ok bool) {
	switch nc := nc.(type) {
	case *Conn:
		return nc, true
	case *net.TCPConn:
		return nc, true
	case *net.UnixConn:
		return nc, true
	}
	return nil, false
}

// Patience is how long a TCP connection lives whose peer does not answer. What
// is zero is not set: without Idle nobody asks, and without Unanswered it is the
// system's to give up.
type Patience struct {
	// Idle is after how long a silence the peer is asked whether it is still
	// there (SO_KEEPALIVE), and Interval between two such questions. Both are
	// cut to whole seconds.
	Idle, Interval time.Duration
	// Unanswered is when the kernel gives up, on what it has sent as on
	// questions (TCP_USER_TIMEOUT, RFC 5482), in whole milliseconds. Were it
	// shorter than Idle and Interval, the first lost question would be the end.
	Unanswered time.Duration
}

// questions is how many must go unanswered where the kernel knows no Unanswered.
const questions = 3

// Dialer connects.
type Dialer struct {
	Patience Patience
}

var longAgo = time.Unix(1, 0) // makes what waits fail at once

// opError is err as package net would return it.
func opError(op string, err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		e.Op = op // it is "raw-read" to RawConn
		return e
	}
	return &net.OpError{Op: op, Net: "tcp", Err: err}
}
