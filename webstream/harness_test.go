package webstream_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// oneWay is a connection that is read from what a peer has sent, and keeps what
// the peer is sent.
type oneWay struct {
	net.Conn // nil
	io.Reader
	sent bytes.Buffer
}

func (c *oneWay) Read(b []byte) (int, error)       { return c.Reader.Read(b) }
func (c *oneWay) Write(b []byte) (int, error)      { return c.sent.Write(b) }
func (c *oneWay) Close() error                     { return nil }
func (c *oneWay) SetWriteDeadline(time.Time) error { return nil }

// ways are how octets may come.
func ways(in string) map[string]io.Reader {
	return map[string]io.Reader{
		"whole": strings.NewReader(in), "by octets": iotest.OneByteReader(strings.NewReader(in)),
		"with its end": iotest.DataErrReader(strings.NewReader(in)), // as crypto/tls has it
	}
}

// sameInPieces wants a stream to read the same whatever pieces it comes in, and no
// more than there is.
func sameInPieces(t *testing.T, in []byte, stream func(io.Reader) io.Reader) {
	t.Helper()
	want, wantErr := io.ReadAll(stream(bytes.NewReader(in)))
	if len(want) > len(in) {
		t.Errorf("%d octets of %d", len(want), len(in))
	}
	for how, r := range ways(string(in)) {
		if got, err := io.ReadAll(stream(r)); !bytes.Equal(got, want) || (err == nil) != (wantErr == nil) {
			t.Errorf("%s: %q, %v; whole: %q, %v", how, got, err, want, wantErr)
		}
	}
}

// stream is one end of a stream.
type stream interface {
	net.Conn
	CloseWrite() error
}

// bothWays wants so many octets to come through each way, and their end.
func bothWays(t *testing.T, pair func(testing.TB) (client, server stream), sizes ...int) {
	t.Helper()
	for _, size := range sizes {
		client, server := pair(t)
		sent := make([]byte, size)
		rand.Read(sent)
		for _, way := range [][2]stream{{client, server}, {server, client}} {
			wrote := make(chan error, 1)
			go func() {
				if _, err := way[0].Write(sent); err != nil {
					wrote <- err
					return
				}
				wrote <- way[0].CloseWrite()
			}()
			got, err := io.ReadAll(way[1])
			if err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("%d octets: %d came, %v", size, len(got), err)
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
		}
		client.Close()
		server.Close()
	}
}
