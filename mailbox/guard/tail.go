package guard

import (
	"bytes"
	"strconv"
)

// tail is the end of a line: enough of it to hold a literal's announcement,
// however it was cut into pieces.
type tail struct {
	b [24]byte // "{", 19 digits, "}", CRLF
	n uint8
}

func (t *tail) add(p []byte) {
	if len(p) >= len(t.b) {
		t.n = uint8(copy(t.b[:], p[len(p)-len(t.b):]))
		return
	}
	if over := int(t.n) + len(p) - len(t.b); over > 0 {
		t.n = uint8(copy(t.b[:], t.b[over:t.n]))
	}
	t.n += uint8(copy(t.b[t.n:], p))
}

// literal returns the size of the literal that the line announces.
func (t *tail) literal() (int64, bool) {
	b, ok := bytes.CutSuffix(t.b[:t.n], []byte("}\r\n"))
	i := bytes.LastIndexByte(b, '{')
	if !ok || i < 0 {
		return 0, false
	}
	size, err := strconv.ParseUint(string(b[i+1:]), 10, 63)
	return int64(size), err == nil
}
