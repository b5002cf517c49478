package upstream_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"posthorn/backend/upstream"
)

func TestReadLine(t *testing.T) {
	const limit = 5000
	long := strings.Repeat("x", limit)
	for name, c := range map[string]struct {
		text  string
		lines []string
		want  error
	}{
		"lines":     {"a\r\n\r\nb c\r\n", []string{"a", "", "b c"}, io.EOF},
		"longest":   {long + "\r\n" + long + "\r\n", []string{long, long}, io.EOF},
		"too long":  {"a\r\nx" + long + "\r\n", []string{"a"}, upstream.ErrBadLine},
		"endless":   {strings.Repeat(long, 100), nil, upstream.ErrBadLine},
		"bare LF":   {"a\r\nb\nc\r\n", []string{"a"}, upstream.ErrBadLine},
		"bare CR":   {"a\rb\r\n", []string{"a\rb"}, io.EOF},
		"cut off":   {"a\r\nb", []string{"a"}, io.ErrUnexpectedEOF},
		"cut in CR": {"a\r", nil, io.ErrUnexpectedEOF},
		"nothing":   {"", nil, io.EOF},
	} {
		for size, r := range map[string]io.Reader{
			"whole": strings.NewReader(c.text), "octets": iotest.OneByteReader(strings.NewReader(c.text)),
		} {
			conn := upstream.Conn{R: bufio.NewReaderSize(r, 16)}
			for i := 0; ; i++ {
				line, err := conn.ReadLine(limit)
				if err != nil {
					if !errors.Is(err, c.want) || i != len(c.lines) {
						t.Errorf("%s, %s: error %v after %d lines", name, size, err, i)
					}
					break
				}
				if i >= len(c.lines) || line != c.lines[i] {
					t.Errorf("%s, %s: line %d is %.20q", name, size, i, line)
				}
			}
		}
	}
}

func FuzzReadLine(f *testing.F) {
	f.Add([]byte("* OK\r\nnext\r\n"), 10, 16)
	f.Add([]byte("a\nb\rc\r\r\n\r\n"), 3, 16)
	f.Add(bytes.Repeat([]byte("x"), 100), 50, 20)
	f.Fuzz(func(t *testing.T, text []byte, limit, size int) {
		limit, size = limit&0xfff, size&0xff
		c := upstream.Conn{R: bufio.NewReaderSize(bytes.NewReader(text), size)}
		rest := text
		for {
			line, err := c.ReadLine(limit)
			want, after, found := bytes.Cut(rest, []byte("\n"))
			good := found && bytes.HasSuffix(want, []byte("\r")) && len(want)-1 <= limit
			if good != (err == nil) {
				t.Fatalf("%q of %q: %q, %v", line, rest, want, err)
			}
			if err != nil {
				if ended := errors.Is(err, io.EOF); ended != (len(rest) == 0) {
					t.Fatalf("%q: %v", rest, err)
				}
				return
			}
			if line != string(want[:len(want)-1]) {
				t.Fatalf("%q, want %q", line, want)
			}
			rest = after
		}
	})
}

func TestReadAndDetach(t *testing.T) {
	s := serve(t, says(greeting+"one\r\ntwo\r\nthree"))
	p := newPool(t, upstream.Config{Addresses: []string{s.address}})

	c := dial(t, p, upstream.Header{}) // as a net.Conn it loses nothing
	b := make([]byte, len("one\r\ntwo\r\nthree"))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "one\r\ntwo\r\nthree" {
		t.Errorf("read %q, %v", b, err)
	}

	c = dial(t, p, upstream.Header{})
	if line, err := c.ReadLine(100); line != "one" || err != nil {
		t.Errorf("ReadLine: %q, %v", line, err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Errorf("CloseWrite: %v", err)
	}
	head := c.Detach()
	rest, err := io.ReadAll(c)
	if got := string(head) + string(rest); got != "two\r\nthree" || err != nil || c.R != nil {
		t.Errorf("%q and %q, %v, R %v", head, rest, err, c.R)
	}
	_ = c.Close()
	if n := p.Status()[0].Conns; n != 1 {
		t.Errorf("%d connections, one is open", n)
	}
}

// TestCloseConcurrently closes connections while they are read, several times
// at once.
func TestCloseConcurrently(t *testing.T) {
	s := serve(t, says(greeting))
	p := newPool(t, upstream.Config{Addresses: []string{s.address}})
	for range 20 {
		c := dial(t, p, upstream.Header{})
		var all sync.WaitGroup
		all.Go(func() { _, _ = c.ReadLine(100) })
		for range 4 {
			all.Go(func() { _ = c.Close() })
		}
		all.Wait()
	}
	if n := p.Status()[0].Conns; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

func TestWithin(t *testing.T) {
	s := serve(t, says(greeting))
	p := newPool(t, upstream.Config{Addresses: []string{s.address}})
	c := dial(t, p, upstream.Header{})
	ctx := context.Background()
	read := func() error {
		_, err := c.ReadLine(100)
		return err
	}

	if err := c.Within(ctx, time.Millisecond, read); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after a time: %v", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	go cancel()
	if err := c.Within(canceled, time.Hour, read); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := c.Within(canceled, time.Hour, read); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled before: %v", err)
	}
	failure := errors.New("failure")
	if err := c.Within(ctx, time.Hour, func() error { return failure }); err != failure {
		t.Errorf("failed: %v", err)
	}

	// An outer call's bounds hold in the inner one, and after it.
	for name, inner := range map[string]func() error{
		"inside": func() error { return c.Within(ctx, time.Hour, read) },
		"after": func() error {
			_ = c.Within(ctx, time.Hour, func() error { return nil })
			return read()
		},
		"after an inner end": func() error {
			_ = c.Within(canceled, time.Hour, read)
			return read()
		},
	} {
		if err := c.Within(ctx, 10*time.Millisecond, inner); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("in a call, %s: %v", name, err)
		}
		outer, cancel := context.WithCancel(ctx)
		go cancel()
		if err := c.Within(outer, time.Hour, inner); !errors.Is(err, context.Canceled) {
			t.Errorf("in a canceled call, %s: %v", name, err)
		}
	}

	inner := func() error { return c.Within(ctx, time.Millisecond, read) }
	if err := c.Within(ctx, time.Hour, inner); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an inner call that is shorter: %v", err)
	}

	// Nothing is left of them.
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestWithinEndsAtOnce ends calls at the very moment when their context ends:
// whatever comes first, afterwards others have the say in deadlines.
func TestWithinEndsAtOnce(t *testing.T) {
	s := serve(t, func(c net.Conn) {
		if _, err := io.WriteString(c, greeting); err == nil {
			_, _ = io.Copy(c, c)
		}
	})
	p := newPool(t, upstream.Config{Addresses: []string{s.address}})
	c := dial(t, p, upstream.Header{})
	guard := time.AfterFunc(20*time.Second, func() { _ = c.Close() })
	defer guard.Stop()
	for i := range 500 {
		ctx, cancel := context.WithCancel(context.Background())
		_ = c.Within(ctx, time.Hour, func() error { cancel(); return nil })
		if i%2 == 0 {
			if _, err := io.WriteString(c, "x\r\n"); err != nil {
				t.Fatal(err)
			}
			if line, err := c.ReadLine(10); line != "x" || err != nil {
				t.Fatalf("%q, %v", line, err)
			}
			continue
		}
		_ = c.SetDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.ReadLine(10); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the deadline was lost: %v", err)
		}
		_ = c.SetDeadline(time.Time{})
	}
}
