package mailbox

import (
	"slices"
	"sync"
)

// event is what a commit did to a folder, as far as sessions want to know.
type event struct {
	folder   uint64
	added    []uint32 // UIDs, ascending and above all before
	removed  []uint32 // UIDs
	changed  []uint32 // UIDs whose flags are other than before
	keywords bool     // the mailbox learned keywords
	gone     bool     // the mailbox was deleted
	source   *view    // knows about changed already; may be nil
}

// hub knows the folders that sessions have selected.
type hub struct {
	mu    sync.Mutex // guards boxes
	boxes map[uint64]*box
}

// box is a folder that at least one session has selected. Its list of UIDs is
// shared: a view is a slice of it that was current at some time. To append
// leaves older slices as they are, and to remove makes a new list.
type box struct {
	id    uint64
	views int // guarded by hub.mu

	mu       sync.Mutex // guards what follows
	loaded   bool
	backlog  []event // since the box was made, until it is loaded
	uids     []uint32
	removals uint64 // how often uids has been replaced
	watchers []*view
	changes  []flagChange
	first    uint64 // the number of changes[0]
	keywords uint64 // how often the mailbox learned some
	gone     bool
}

// flagChange is an entry in a box's log of changed flags. The flags themselves
// are read when a session reports them.
type flagChange struct {
	uid    uint32
	source *view
}

// maxChanges bounds the log for sessions that do not read it. Who has missed
// entries reports the flags of all messages.
const maxChanges = 8192

// view is what one session knows of its selected folder. Its fields belong to
// the session, but for the last two.
type view struct {
	box      *box
	uids     []uint32 // by sequence number less one
	removals uint64   // of the box when uids was taken
	keywords uint64
	wake     func() // called when there may be news; nil: nobody waits; guarded by box.mu
	next     uint64 // number of the first flagChange not reported; guarded by box.mu
}

// join returns a view of a folder that is current, except that its list of
// UIDs is empty until refresh. list reads the UIDs from disk.
func (h *hub) join(id uint64, list func() ([]uint32, error)) (*view, error) {
	h.mu.Lock()
	if h.boxes == nil {
		h.boxes = make(map[uint64]*box)
	}
	b := h.boxes[id]
	if b == nil {
		b = &box{id: id}
		h.boxes[id] = b
	}
	b.views++
	h.mu.Unlock()

	v := &view{box: b}
	if err := b.load(list); err != nil {
		h.leave(v)
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers = append(b.watchers, v)
	v.next = b.first + uint64(len(b.changes))
	return v, nil
}

// leave ends a view.
func (h *hub) leave(v *view) {
	b := v.box
	h.mu.Lock()
	if b.views--; b.views == 0 {
		delete(h.boxes, b.id)
	}
	h.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.watchers, v); i >= 0 {
		b.watchers = slices.Delete(b.watchers, i, i+1)
	}
}

// watch has wake called when there may be news, and whoever was called before
// no more. wake must not block.
func (v *view) watch(wake func()) {
	v.box.mu.Lock()
	defer v.box.mu.Unlock()
	v.wake = wake
}

// publish is called after each commit, in the order of the commits.
func (h *hub) publish(e event) {
	h.mu.Lock()
	b := h.boxes[e.folder]
	h.mu.Unlock()
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.loaded {
		b.backlog = append(b.backlog, e)
		return
	}
	b.apply(e)
}

// load reads the UIDs unless another view has. What is committed meanwhile is
// applied on top: to a list that may have it already.
func (b *box) load(list func() ([]uint32, error)) error {
	b.mu.Lock()
	loaded := b.loaded
	b.mu.Unlock()
	if loaded {
		return nil
	}
	uids, err := list()
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loaded {
		return nil
	}
	b.loaded, b.uids = true, uids
	for _, e := range b.backlog {
		b.apply(e)
	}
	b.backlog = nil
	return nil
}

// apply takes an event in. The caller holds b.mu.
func (b *box) apply(e event) {
	for _, uid := range e.added {
		if n := len(b.uids); n == 0 || uid > b.uids[n-1] {
			b.uids = append(b.uids, uid)
		}
	}
	if len(e.removed) > 0 {
		b.remove(e.removed)
	}
	if e.gone {
		b.gone, b.uids = true, nil
		b.removals++
	}
	if e.keywords {
		b.keywords++
	}
	for _, uid := range e.changed {
		b.changes = append(b.changes, flagChange{uid, e.source})
	}
	if n := len(b.changes); n > maxChanges {
		b.first += uint64(n)
		b.changes = nil
	}
	for _, v := range b.watchers {
		if v != e.source && v.wake != nil {
			v.wake()
		}
	}
}

func (b *box) remove(uids []uint32) {
	gone := make(map[uint32]struct{}, len(uids))
	for _, uid := range uids {
		gone[uid] = struct{}{}
	}
	kept := make([]uint32, 0, len(b.uids))
	for _, uid := range b.uids {
		if _, ok := gone[uid]; !ok {
			kept = append(kept, uid)
		}
	}
	b.uids = kept
	b.removals++
}

// news is what has happened since a view was current.
type news struct {
	removed  []uint32 // sequence numbers, descending: each as the client counts then
	exists   bool     // messages were added
	changed  []uint32 // UIDs whose flags have changed
	all      bool     // instead: any flags may have changed
	keywords bool
	gone     bool
}

// refresh makes the view current and returns what is new. Without expunge it
// may not remove messages; then none are added either, as long as some wait to
// be removed.
func (v *view) refresh(expunge bool) news {
	b := v.box
	b.mu.Lock()
	defer b.mu.Unlock()
	n := news{gone: b.gone, keywords: v.keywords != b.keywords}
	v.keywords = b.keywords
	if v.removals == b.removals || expunge {
		if v.removals != b.removals {
			n.removed = missing(v.uids, b.uids)
		}
		n.exists = len(v.uids)-len(n.removed) < len(b.uids)
		v.uids, v.removals = b.uids, b.removals
	}
	n.changed, n.all = b.changesFor(v)
	return n
}

// missing returns the places, counted from one, of what old has and current
// has not, the last first. Both are ascending.
func missing(old, current []uint32) []uint32 {
	var places []uint32
	j := len(current) - 1
	for i := len(old) - 1; i >= 0; i-- {
		for j >= 0 && current[j] > old[i] {
			j--
		}
		if j < 0 || current[j] != old[i] {
			places = append(places, uint32(i+1))
		}
	}
	return places
}

// changesFor returns the UIDs that others have changed since v last asked, and
// forgets the changes that nobody needs any more. The caller holds b.mu.
func (b *box) changesFor(v *view) (uids []uint32, all bool) {
	end := b.first + uint64(len(b.changes))
	if v.next == end {
		return nil, false
	}
	if all = v.next < b.first; !all {
		for _, c := range b.changes[v.next-b.first:] {
			if c.source != v {
				uids = append(uids, c.uid)
			}
		}
	}
	v.next = end
	for _, w := range b.watchers {
		if w.next < end {
			return uids, all
		}
	}
	b.first, b.changes = end, nil
	return uids, all
}

// seq returns the sequence number of a UID, or 0.
func (v *view) seq(uid uint32) uint32 {
	if i, ok := slices.BinarySearch(v.uids, uid); ok {
		return uint32(i + 1)
	}
	return 0
}
