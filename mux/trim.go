package mux

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"reflect"
	"unsafe"
)

// crypto/tls keeps the buffers that a connection's records were read in, and
// what its handshake was about, as long as the connection lives: 25 KB after one
// record of 16 KB from the client (golang/go#43563), 3 KB for a large
// ClientHello, 4 KB for a client certificate. It has no way to say that a
// connection will be quiet. Of thousands that wait for mail this is most of what
// they take, so trim reaches for those fields themselves. It leaves alone what is
// not the field that this was written for; TestTrimKnowsTheFields fails then.
//
// A field here is only read and written by whoever reads from the connection,
// or by the handshake; nothing in a later Read, Write or Close needs its old
// value. ConnectionState is less complete, and cannot export keying material.
var (
	fieldRawInput = offsetOf[bytes.Buffer]("rawInput") // records as they came
	fieldInput    = offsetOf[bytes.Reader]("input")    // what of one is not read yet; it points into rawInput
	fieldHand     = offsetOf[bytes.Buffer]("hand")     // handshake messages that are not complete
	fieldPeers    = offsetOf[[]*x509.Certificate]("peerCertificates")
	fieldExporter = offsetOf[func(string, []byte, int) ([]byte, error)]("ekm")
)

// trimFields are all that must be known for trim to do anything.
var trimFields = []uintptr{fieldRawInput, fieldInput, fieldHand, fieldPeers, fieldExporter}

// offsetOf is where a field of that name and type is in a tls.Conn; zero, which
// is where another one is, when there is none.
func offsetOf[T any](name string) uintptr {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() || len(f.Index) != 1 {
		return 0
	}
	return f.Offset
}

func fieldOf[T any](tc *tls.Conn, offset uintptr) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(tc), offset))
}

// trim makes tc forget its handshake, and the buffers that are empty. Only the
// goroutine that reads from tc may call it; others may write meanwhile.
func trim(tc *tls.Conn) {
	for _, offset := range trimFields {
		if offset == 0 {
			return
		}
	}
	*fieldOf[[]*x509.Certificate](tc, fieldPeers) = nil
	*fieldOf[func(string, []byte, int) ([]byte, error)](tc, fieldExporter) = exportNothing
	if hand := fieldOf[bytes.Buffer](tc, fieldHand); hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
	raw, input := fieldOf[bytes.Buffer](tc, fieldRawInput), fieldOf[bytes.Reader](tc, fieldInput)
	if raw.Len() == 0 && input.Len() == 0 {
		*input = bytes.Reader{}
		*raw = bytes.Buffer{}
	}
}

var errTrimmed = errors.New("mux: the connection is parked, and has forgotten its handshake")

func exportNothing(string, []byte, int) ([]byte, error) { return nil, errTrimmed }
