package accounts

import "container/list"

// table remembers a bounded number of things that strangers can name, so that
// naming many costs them the memory of their own names and not ours. When it
// is full it forgets the light entries first, the one that rested longest
// before the others; the heavy ones, which took a stranger effort to make, go
// when there are no light ones left. Entries that are held do not count, and
// stay. A table is guarded by its owner's mutex.
type table[K comparable, V any] struct {
	max          int
	weigh        func(*V) weight
	entries      map[K]*entry[K, V]
	light, heavy list.List // of resting entries, the longest-resting in front
}

type entry[K comparable, V any] struct {
	key     K
	value   V
	holders int
	resting *list.Element // nil while held
	in      *list.List    // the list that resting is in
}

func newTable[K comparable, V any](max int, weigh func(*V) weight) *table[K, V] {
	return &table[K, V]{max: max, weigh: weigh, entries: make(map[K]*entry[K, V])}
}

// hold returns the entry of key, made if need be, and keeps it until release.
func (t *table[K, V]) hold(key K) *entry[K, V] {
	e := t.entries[key]
	if e == nil {
		e = &entry[K, V]{key: key}
		t.entries[key] = e
	}
	if e.resting != nil {
		e.in.Remove(e.resting)
		e.resting, e.in = nil, nil
	}
	e.holders++
	return e
}

// weight is how much it matters to remember an entry.
type weight int

const (
	empty weight = iota // nothing to remember
	light
	heavy
)

// release undoes one hold. After the last one the entry rests, if there is
// anything to remember.
func (t *table[K, V]) release(e *entry[K, V]) {
	e.holders--
	if e.holders > 0 {
		return
	}
	switch t.weigh(&e.value) {
	case empty:
		delete(t.entries, e.key)
	case light:
		e.in, e.resting = &t.light, t.light.PushBack(e)
	case heavy:
		e.in, e.resting = &t.heavy, t.heavy.PushBack(e)
	}
	t.shrink(&t.light)
	t.shrink(&t.heavy)
}

// shrink forgets from the front of in what has become empty, and, while the
// table is too full, what has not. One release adds one entry, so a few at a
// time keep up.
func (t *table[K, V]) shrink(in *list.List) {
	for range 4 {
		front := in.Front()
		if front == nil {
			return
		}
		e := front.Value.(*entry[K, V])
		if t.light.Len()+t.heavy.Len() <= t.max && t.weigh(&e.value) != empty {
			return
		}
		in.Remove(front)
		delete(t.entries, e.key)
	}
}
