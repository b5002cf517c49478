package imap

import (
	"bytes"
	"io"
)

// byeError ends the connection with a BYE that says why.
type byeError string

func (e byeError) Error() string { return string(e) }

const (
	errLineEnd = byeError("Lines end with CRLF and hold no NUL")
	errLong    = byeError("Line too long")
)

// input reads lines and octets from a client that is not trusted.
type input struct {
	conn io.Reader
	buf  []byte // buf[from:] was received and not taken yet
	from int
}

const firstRead = 512 // most clients need no more before login

// line returns the next line without its CRLF, which is at most max bytes long.
// It is valid until the next read.
func (in *input) line(max int) ([]byte, error) {
	for seen := in.from; ; {
		i := bytes.IndexAny(in.buf[seen:], "\r\n\x00")
		if i < 0 {
			i = len(in.buf) - seen
		}
		switch seen += i; {
		case seen-in.from > max:
			return nil, errLong
		case seen == len(in.buf), seen+1 == len(in.buf) && in.buf[seen] == '\r':
		case !bytes.HasPrefix(in.buf[seen:], []byte("\r\n")):
			return nil, errLineEnd
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

// octets returns the next n octets. They are valid until the next read.
func (in *input) octets(n int) ([]byte, error) {
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
func (in *input) fill() error {
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
	n, err := in.conn.Read(in.buf[len(in.buf):cap(in.buf)])
	in.buf = in.buf[:len(in.buf)+n]
	switch {
	case n > 0:
		return nil
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

// pending returns what was received and not taken.
func (in *input) pending() []byte { return in.buf[in.from:] }

// wipe forgets everything that was received: there may be a password in it.
func (in *input) wipe() {
	clear(in.buf[:cap(in.buf)])
	in.buf, in.from = nil, 0
}
