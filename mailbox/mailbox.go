// Package mailbox is the embedded message store and its IMAP sessions: the
// backend that runs with no set-up. It keeps mail in a Badger database of its
// own, knows users only by an opaque ID, and never sees a password or a key.
package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/rs/zerolog"
)

var (
	// ErrOverQuota says that a message does not fit in a user's quota.
	ErrOverQuota = errors.New("mailbox: over quota")
	// ErrTooBig says that a message is larger than Options.MaxMessageSize.
	ErrTooBig = errors.New("mailbox: message too big")
	// ErrFull says that the disk is: nothing was stored, try later.
	ErrFull = errors.New("mailbox: no space")
	// ErrClosed says that the Store is closed or about to be, or that a Restore
	// is under way.
	ErrClosed = errors.New("mailbox: closed")
	// ErrNotEmpty says that Restore was asked to overwrite mail.
	ErrNotEmpty = errors.New("mailbox: store is not empty")
	// ErrRemoved says that a user was removed.
	ErrRemoved = errors.New("mailbox: account removed")
	// ErrNoUser says that a user ID is empty or too long.
	ErrNoUser = errors.New("mailbox: bad user ID")
)

// Options are the settings of a Store. Zero fields take the defaults.
type Options struct {
	MaxMessageSize int64 // bytes; default 50 MiB
	Quota          int64 // bytes of messages for each user; default 0: none
	Log            zerolog.Logger
	Now            func() time.Time // internal dates; default time.Now
}

// Store keeps the mail of all users. Its methods may be called concurrently.
type Store struct {
	options   Options
	db        *badger.DB
	committer *committer
	hub       hub
	server    *imapserver.Server
	accept    *sessionListener
	served    chan struct{} // closed when server has ended

	capabilities string // what sessions offer

	files    files
	packs    *packs
	garbage  chan struct{} // has an element when files are to be deleted
	keeping  sync.RWMutex  // held for reading while no file may be deleted
	lastBlob atomic.Uint64
	buffers  sync.Pool // of *[]byte, empty, with a capacity of smallBuffer

	restore sync.Mutex // held by a Restore, which Close waits for

	mu        sync.Mutex // guards what follows
	closing   bool
	restoring bool
	working   sync.WaitGroup // Add only under mu, by begin
	sessions  map[string]map[*servedConn]struct{}
}

// Open opens or creates the store in dir, which it locks, and removes what
// unfinished deliveries left behind.
func Open(dir string, o Options) (*Store, error) {
	if o.MaxMessageSize <= 0 {
		o.MaxMessageSize = 50 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	f, err := openFiles(dir)
	if err != nil {
		return nil, fmt.Errorf("mailbox: open: %w", err)
	}
	p, err := openPacks(filepath.Join(dir, "packs"))
	if err != nil {
		return nil, fmt.Errorf("mailbox: open: %w", err)
	}
	db, err := badger.Open(databaseOptions(filepath.Join(dir, "index"), o.Log))
	if err != nil {
		return nil, fmt.Errorf("mailbox: open: %w", err)
	}
	s := &Store{
		options:  o,
		db:       db,
		files:    f,
		packs:    p,
		garbage:  make(chan struct{}, 1),
		buffers:  sync.Pool{New: func() any { b := make([]byte, 0, smallBuffer); return &b }},
		sessions: make(map[string]map[*servedConn]struct{}),
	}
	s.committer = &committer{
		db:        db,
		packs:     p,
		log:       o.Log,
		freeSpace: func() (int64, error) { return freeSpace(dir) },
		published: s.hub.publish,
		garbage:   s.noteGarbage,
	}
	if err := s.recover(); err != nil {
		db.Close()
		return nil, fmt.Errorf("mailbox: open: %w", err)
	}
	s.serve()
	return s, nil
}

// recover finds the number to go on from, and finishes what was interrupted.
func (s *Store) recover() error {
	err := s.view(func(v snapshot) error { return v.get(restoreKey(), func([]byte) error { return nil }) })
	if err == nil {
		return s.clear()
	} else if !notFound(err) {
		return err
	}
	incoming, err := s.files.listIncoming()
	if err != nil {
		return err
	}
	var removed []uint64
	err = s.view(func(v snapshot) error {
		s.lastBlob.Store(max(v.lastNumber(kindBlob), v.lastNumber(kindGarbage)))
		for _, id := range incoming {
			err := v.get(numberKey(kindBlob, id), func([]byte) error { return nil })
			if err == nil {
				s.files.settle(id)
			} else if notFound(err) {
				err = s.files.remove(id)
			}
			if err != nil {
				return err
			}
		}
		return v.scan([]byte{kindRemoved}, func(item *badger.Item) error {
			removed = append(removed, keyNumber(item.Key()))
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, id := range removed {
		if err := s.purge(id); err != nil && !errors.Is(err, ErrFull) {
			return err
		}
	}
	if err := s.removeGarbage(); err != nil && !errors.Is(err, ErrFull) {
		return err
	}
	return s.removeStrayPacks()
}

// begin registers work that Close and Restore wait for, unless it is too late
// for that.
func (s *Store) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.restoring {
		return false
	}
	s.working.Add(1)
	return true
}

// Deliver streams one message (CRLF line ends, RFC 5322) into the INBOX of
// each user, of all or none. When it returns nil the message is on disk and
// sessions in IDLE are being told; when it returns an error (also one of r),
// nobody will ever see it. Memory use does not depend on the message's size.
// There may be up to 2,000 users.
func (s *Store) Deliver(ctx context.Context, users []string, r io.Reader) error {
	if !s.begin() {
		return ErrClosed
	}
	defer s.working.Done()
	to := make(map[string]struct{}, len(users))
	for _, user := range users {
		if !validUser(user) {
			return ErrNoUser
		}
		to[user] = struct{}{}
	}
	if len(to) == 0 {
		return fmt.Errorf("mailbox: deliver to nobody: %w", ErrNoUser)
	}
	for user := range to { // so that the one change that delivers is a small one
		if err := s.ensureUser(user); err != nil {
			return err
		}
	}
	u, err := s.receive(ctx, r)
	if err != nil {
		return err
	}
	defer u.finish()
	date := s.options.Now()
	return u.store(len(to), func(t *tx) error {
		for user := range to {
			m := messageRecord{blob: u.id, size: u.size, date: date}
			if _, err := s.deliverTo(t, user, &m); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) deliverTo(t *tx, user string, m *messageRecord) (uint32, error) {
	u, err := t.openUser(user, s.options.Now())
	if err != nil {
		return 0, err
	}
	inbox, err := t.folderID(u.n, "INBOX")
	if err != nil {
		return 0, err
	}
	return s.add(t, u, inbox, m)
}

// Usage returns how much a user's messages take, in bytes and messages.
func (s *Store) Usage(ctx context.Context, user string) (bytes int64, messages int, err error) {
	if !s.begin() {
		return 0, 0, ErrClosed
	}
	defer s.working.Done()
	var u userRecord
	err = s.view(func(v snapshot) error { return v.get(userKey(user), u.decode) })
	if notFound(err) {
		return 0, 0, nil
	}
	return u.bytes, int(u.messages), err
}

// Quota answers for the quota root of a mailbox (RFC 9208): how many bytes the
// user's messages take, how many they may (0: no limit), and whether there is
// such a mailbox.
func (s *Store) Quota(ctx context.Context, user, mailbox string) (used, limit int64, exists bool, err error) {
	if !s.begin() {
		return 0, 0, false, ErrClosed
	}
	defer s.working.Done()
	err = s.view(func(v snapshot) error {
		var u userRecord
		if err := v.get(userKey(user), u.decode); err != nil {
			return err
		}
		used = u.bytes
		name, ok := canonicalName(mailbox)
		if !ok {
			return nil
		}
		_, err := folderID(v, u.n, name)
		exists = err == nil
		return err
	})
	if notFound(err) || errors.Is(err, errNoFolder) {
		err = nil
	}
	return used, s.options.Quota, exists, err
}

// RemoveUser deletes all mail of a user; sessions of the user end. The ID can
// never be used again: ErrRemoved is what others get for it from then on.
func (s *Store) RemoveUser(ctx context.Context, user string) error {
	if !s.begin() {
		return ErrClosed
	}
	defer s.working.Done()
	s.endSessions(user, errUserRemoved)
	var folders []uint64
	err := s.committer.do(func(t *tx) error {
		var err error
		folders, err = t.removeUser(user)
		return err
	})
	if err != nil {
		return err
	}
	s.endSessions(user, errUserRemoved) // those that began meanwhile
	for _, id := range folders {
		if err := s.purge(id); err != nil {
			return err
		}
	}
	return nil
}

// Close waits for running deliveries, ends all sessions, and closes the
// database.
func (s *Store) Close() error {
	s.mu.Lock()
	again := s.closing
	s.closing = true
	s.mu.Unlock()
	if again {
		return nil
	}
	s.endAllSessions(errShutdown)
	s.working.Wait()
	s.restore.Lock()
	defer s.restore.Unlock()
	s.accept.Close()
	<-s.served
	if err := errors.Join(s.packs.close(), s.db.Close()); err != nil {
		return fmt.Errorf("mailbox: close: %w", err)
	}
	return nil
}

// validUser says whether a user ID fits in a key.
func validUser(user string) bool { return user != "" && len(user) <= 1024 }

// clampUint32 is for numbers that IMAP writes in 32 bits.
func clampUint32(n int64) uint32 { return uint32(max(0, min(n, math.MaxUint32))) }
