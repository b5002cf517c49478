// Package guard stands between a client and go-imap's imapserver. imapserver
// is strictly sequential and trusts its peer; guard hands it exactly one
// complete, well-formed, bounded command at a time, answers the commands that
// imapserver does not know, and keeps what imapserver says to what was
// promised.
package guard

import (
	"context"
	"net"
	"time"
)

// Options are the settings of a guarded connection.
type Options struct {
	// Capabilities replaces every capability list that imapserver writes.
	Capabilities string
	// ID is the server's answer to ID (RFC 2971), as field and value in turn.
	ID []string
	// Quota answers GETQUOTA and GETQUOTAROOT (RFC 9208); nil: no quota root.
	// exists says whether the mailbox does; limit 0 means none. Bytes.
	Quota func(ctx context.Context, mailbox string) (used, limit int64, exists bool, err error)
	// AppendLimit is the largest literal of an APPEND, in bytes (RFC 7889).
	AppendLimit int64
	// MaxCommand bounds a command without an APPEND's literal; default 64 KiB.
	MaxCommand int
	// MaxErrors is how many bad commands end the connection; default 50.
	MaxErrors int
	// StartIdle is how long a client may be silent outside IDLE and inside it;
	// zero: the connection below has deadlines of its own.
	IdleTimeout time.Duration
}

// Conn is the net.Conn to give to imapserver. Its deadlines are no-ops: the
// connection below has its own, rolling ones.
type Conn struct{ net.Conn }

// New guards client. The greeting that imapserver writes is swallowed, since
// the caller has greeted already. When ctx ends, the guard writes BYE with the
// text of context.Cause(ctx) between two responses and ends the conversation.
// Closing the Conn does not close client.
func New(ctx context.Context, client net.Conn, o Options) *Conn { panic("unbuilt") }
