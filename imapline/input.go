package imapline

import (
	"bytes"
	"io"
)

// FatalError is why what follows cannot be understood, fit for the BYE that ends
// the connection.
type FatalError string

func (e FatalError) Error() string { return string(e) }

// What is wrong with a line.
const (
	ErrLineEnd = FatalError("Lines end with CRLF and hold no NUL")
	ErrLong    = FatalError("Line too long")
)

// Input reads lines and octets from a client that is not trusted. Reader is set
// before use.
type Input struct {
	Reader io.Reader

	buf  []byte // buf[from:] was received and not taken yet
	from int
}

const firstRead = 512 // most clients need no more before login

// Line returns the next line without its CRLF, which is at most max bytes long.
// It is valid until the next read. Its error is
// ErrLineEnd, ErrLong, or the Reader's.
func (in *Input) Line(max int) ([]byte, error) {
	for seen := in.from; ; {
		i := bytes.IndexAny(in.buf[seen:], "\r\n\x00")
		if i < 0 {
			i = len(in.buf) - seen
		}
		switch seen += i; {
		case seen-in.from > max:
			return nil, ErrLong
		case seen == len(in.buf), seen+1 == len(in.buf) && in.buf[seen] == '\r':
		case !bytes.HasPrefix(in.buf[seen:], []byte("\r\n")):
			return nil, ErrLineEnd
		default:
			line := in.buf[in.from:seen]
			in.from = seen + 2
			return line, nil
		}
		seen -= in.from // fill moves what is there to the front
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
}

// Octets returns the next n octets. They are valid until the next read.
func (in *Input) Octets(n int) ([]byte, error) {
	for len(in.buf)-in.from < n {
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
	b := in.buf[in.from : in.from+n]
	in.from += n
	return b, nil
}

// fill receives at least a byte behind what is there, which moves to buf[0:].
func (in *Input) fill() error {
	if in.from > 0 {
		n := copy(in.buf, in.buf[in.from:])
		clear(in.buf[n:])
		in.buf, in.from = in.buf[:n], 0
	}
	if len(in.buf) == cap(in.buf) {
		grown := make([]byte, len(in.buf), max(firstRead, 2*cap(in.buf)))
		copy(grown, in.buf)
		clear(in.buf)
		in.buf = grown
	}
	n, err := in.Reader.Read(in.buf[len(in.buf):cap(in.buf)])
	in.buf = in.buf[:len(in.buf)+n]
	switch {
	case n > 0:
		return nil
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

// Pending returns what was received and not taken.
func (in *Input) Pending() []byte { return in.buf[in.from:] }

// Wipe forgets everything that was received: there may be a password in it.
func (in *Input) Wipe() {
	clear(in.buf[:cap(in.buf)])
	in.buf, in.from = nil, 0
}
