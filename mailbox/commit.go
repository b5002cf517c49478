package mailbox

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/rs/zerolog"
)

// committer is the one writer of the database. Changes that arrive while one
// commit is being synced go into the next one together: many deliveries share
// one sync. There is no goroutine behind it; the first caller in the queue
// does the work for the rest.
type committer struct {
	db        *badger.DB
	packs     *packs
	log       zerolog.Logger
	freeSpace func() (int64, error)
	published func(event)
	garbage   func() // there are files to be deleted

	mu    sync.Mutex // guards queue and busy
	queue []*change
	busy  bool // somebody commits
}

// change is what one caller wants done to the database, all of it or nothing.
type change struct {
	apply    func(*tx) error
	turn     chan struct{} // closed when it is finished, or this caller's turn to commit
	finished bool
	err      error
}

// do applies a change and returns when it is on disk. apply must only read and
// write through its argument; it may run twice.
func (c *committer) do(apply func(*tx) error) error {
	ch := &change{apply: apply, turn: make(chan struct{})}
	c.mu.Lock()
	c.queue = append(c.queue, ch)
	wait := c.busy
	c.busy = true
	c.mu.Unlock()

	if wait {
		<-ch.turn
		if ch.finished {
			return ch.err
		}
	}
	c.mu.Lock()
	batch := c.queue
	c.queue = nil
	c.mu.Unlock()

	c.commit(batch)
	for _, other := range batch {
		if other != ch {
			other.finished = true
			close(other.turn)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy = len(c.queue) > 0; c.busy {
		close(c.queue[0].turn)
	}
	return ch.err
}

// commit applies the batch in as few transactions as will hold it.
func (c *committer) commit(batch []*change) {
	free, err := c.freeSpace()
	if err != nil {
		for _, ch := range batch {
			ch.err = err
		}
		return
	}
	g := c.newGroup()
	defer func() { g.txn.Discard() }()
	for _, ch := range batch {
		t := c.stage(g, ch, free)
		if ch.err == nil && !g.fits(t) {
			if err := c.flush(g); err != nil { // t was built on what has failed
				t = nil
			}
			g = c.newGroup()
			if t == nil {
				t = c.stage(g, ch, free)
			}
		}
		if ch.err == nil {
			ch.err = g.add(ch, t, &free)
		}
	}
	_ = c.flush(g) // each change has the error
}

// stage runs a change's function on top of the group.
func (c *committer) stage(g *group, ch *change, free int64) *tx {
	defer c.survive()
	t := &tx{base: snapshot{g.txn}, packs: c.packs, free: free}
	ch.err = errPanic
	ch.err = ch.apply(t)
	return t
}

// errPanic says that a change has panicked, which is logged.
var errPanic = errors.New("mailbox: panic in a change")

// errUnsure says that a commit failed, which may have put it on disk all the
// same, or a part of the way there.
var errUnsure = errors.New("mailbox: commit failed")

// flush commits a group and tells the world, or gives each of its changes the
// error.
func (c *committer) flush(g *group) error {
	err := c.packs.sync()
	if err == nil {
		err = g.txn.Commit()
	}
	if err != nil {
		g.txn.Discard() // commit may go on with another group
		err = fmt.Errorf("%w: %w", errUnsure, diskError(err))
		for _, ch := range g.changes {
			ch.err = err
		}
		return err
	}
	for _, t := range g.txs {
		c.announce(t)
	}
	return nil
}

// announce tells of a change that is on disk.
func (c *committer) announce(t *tx) {
	defer c.survive()
	for _, e := range t.events {
		c.published(e)
	}
	if t.after != nil {
		t.after()
	}
	for _, e := range t.freed {
		c.packs.free(e)
	}
	if t.garbage {
		c.garbage()
	}
}

// survive keeps a panic from stopping the changes of all others.
func (c *committer) survive() {
	if v := recover(); v != nil {
		c.log.Error().Any("panic", v).Bytes("stack", debug.Stack()).Msg("panic in a change")
	}
}

// diskError makes ErrFull of a full disk. Badger wraps some errors as text, and
// others contain a dump of the value, which is nobody's business.
func diskError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), strings.Contains(err.Error(), syscall.ENOSPC.Error()):
		return ErrFull
	case errors.Is(err, badger.ErrDBClosed), errors.Is(err, badger.ErrBlockedWrites):
		return ErrClosed
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New("mailbox: " + text)
}

// errTooLarge says that a change does not fit in a transaction: its author
// should have made several of it.
var errTooLarge = errors.New("mailbox: change too large")

// group is the changes that go into one transaction.
type group struct {
	txn       *badger.Txn
	changes   []*change
	txs       []*tx
	roomCount int64
	roomSize  int64
}

func (c *committer) newGroup() *group {
	return &group{
		txn:       c.db.NewTransaction(true),
		roomCount: c.db.MaxBatchCount() - 16,
		roomSize:  c.db.MaxBatchSize() - 4096,
	}
}

func (g *group) fits(t *tx) bool {
	return len(g.changes) == 0 || int64(len(t.writes)) <= g.roomCount && t.size <= g.roomSize
}

// add puts a staged change into the transaction, if the disk has room for it.
// What adds no mail may use half of the reserve: it may be there to free space.
func (g *group) add(ch *change, t *tx, free *int64) error {
	room := *free
	if !t.grows {
		room += reserve / 2
	}
	if len(t.writes) > 0 && t.size > room {
		return ErrFull
	}
	if int64(len(t.writes)) > g.roomCount || t.size > g.roomSize {
		return errTooLarge // half of it must not be committed
	}
	for _, w := range t.writes {
		var err error
		if w.value == nil {
			err = g.txn.Delete(w.key)
		} else {
			err = g.txn.Set(w.key, w.value)
		}
		if err != nil {
			return diskError(err)
		}
	}
	*free = min(*free, t.free) - t.size
	g.roomCount -= int64(len(t.writes))
	g.roomSize -= t.size
	g.changes = append(g.changes, ch)
	g.txs = append(g.txs, t)
	return nil
}

// tx is one change in the making: what it has written so far, on top of what
// the changes before it have.
type tx struct {
	base    snapshot
	packs   *packs
	free    int64 // octets that the disk has room for
	writes  []write
	index   map[string]int // of writes, by key
	size    int64          // of writes
	grows   bool           // adds mail
	events  []event
	after   func() // runs once the change is on disk, before any later change
	freed   []extent
	garbage bool // Run has something to delete
}

// write sets a key, or deletes it if value is nil.
type write struct{ key, value []byte }

// present is the value of a key that says all there is to say.
var present = []byte{recordVersion}

// writeOverhead is what a write takes beside its key and value, at most.
const writeOverhead = 48

func (t *tx) get(key []byte, fn func([]byte) error) error {
	if i, ok := t.index[string(key)]; ok {
		if t.writes[i].value == nil {
			return badger.ErrKeyNotFound
		}
		return fn(t.writes[i].value)
	}
	return t.base.get(key, fn)
}

// set keeps key and value until the change is committed.
func (t *tx) set(key, value []byte) { t.write(write{key, value}) }

func (t *tx) delete(key []byte) { t.write(write{key, nil}) }

func (t *tx) write(w write) {
	if i, ok := t.index[string(w.key)]; ok {
		t.size += int64(len(w.value) - len(t.writes[i].value))
		t.writes[i] = w
		return
	}
	if t.index == nil {
		t.index = make(map[string]int, 8)
	}
	t.index[string(w.key)] = len(t.writes)
	t.writes = append(t.writes, w)
	t.size += int64(len(w.key)+len(w.value)) + writeOverhead
}

func (t *tx) publish(e event) { t.events = append(t.events, e) }
