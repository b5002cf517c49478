// Package splice joins a client's connection with a server's, and carries
// bytes both ways until both have ended. It looks at none of them.
package splice

import (
	"context"
	"net"
)

// Link is a client's connection joined with a server's. Its fields are set
// before use; exactly one of Run and Start is called, once.
type Link struct {
	Client, Server net.Conn
	// Head is what the server has sent already; the client gets it first.
	Head []byte
	// Goodbye returns what the client is told when the context ends: cause is
	// the reason, and last the last octets that the server has sent, eight of
	// them or all there were. The result is empty when nothing fits there; nil
	// is a Goodbye that never says anything.
	Goodbye func(cause error, last []byte) []byte
}

// Run carries bytes until both directions have ended, or ctx has. The end of
// one direction is passed on: close_notify or FIN there becomes that here. It
// closes the server's connection, not the client's. The error is nil when the
// server ended first, io.EOF when the client did, or what broke the client's
// connection, and the cause of ctx's end.
func (l *Link) Run(ctx context.Context) error {
	return newCarrier(ctx, l).run()
}

// Start does what Run does, and returns at once: while nothing happens, the
// link takes no goroutine and no buffer. done is called once, with Run's
// result, when nothing uses the client's connection any more.
func (l *Link) Start(ctx context.Context, done func(error)) {
	go func() { done(l.Run(ctx)) }()
}

// Run carries bytes between client and server until both directions have
// ended, or ctx has; head is what the server has sent already. See Link.Run.
func Run(ctx context.Context, client, server net.Conn, head []byte) error {
	l := Link{Client: client, Server: server, Head: head}
	return l.Run(ctx)
}
