package guard

import "sync"

// arrays holds the buffers of all guarded connections: nearly all of those are
// idle at any time, and own none then.
var arrays = sync.Pool{New: func() any { return new([arraySize]byte) }}

const arraySize = 16 << 10 // a TLS record

// buffer is a queue of bytes. It owns an array only while there is something
// in it. The zero value is empty.
type buffer struct {
	b     []byte // all since the array was empty
	r     int    // how much of it has been taken
	array *[arraySize]byte
}

func (q *buffer) len() int { return len(q.b) - q.r }

// bytes returns what is in the queue, valid until it changes.
func (q *buffer) bytes() []byte { return q.b[q.r:] }

func (q *buffer) append(p []byte) {
	if len(p) == 0 {
		return
	}
	if q.array == nil {
		q.array = arrays.Get().(*[arraySize]byte)
		q.b = q.array[:0]
	}
	if q.r > 0 && len(q.b)+len(p) > cap(q.b) {
		q.b = q.b[:copy(q.b, q.b[q.r:])]
		q.r = 0
	}
	q.b = append(q.b, p...)
}

// take drops the first n bytes.
func (q *buffer) take(n int) {
	if q.r += n; q.r == len(q.b) {
		q.release()
	}
}

// release drops everything.
func (q *buffer) release() {
	if q.array != nil {
		arrays.Put(q.array)
	}
	*q = buffer{}
}
