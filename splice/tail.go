package splice

// tail is the end of a stream.
type tail struct {
	buf [8]byte
	n   uint8
}

// note takes what comes next in the stream.
func (t *tail) note(b []byte) {
	if len(b) >= len(t.buf) {
		t.n = uint8(copy(t.buf[:], b[len(b)-len(t.buf):]))
		return
	}
	keep := min(int(t.n), len(t.buf)-len(b))
	copy(t.buf[:], t.buf[int(t.n)-keep:t.n])
	t.n = uint8(keep + copy(t.buf[keep:], b))
}

func (t *tail) octets() []byte { return t.buf[:t.n] }
