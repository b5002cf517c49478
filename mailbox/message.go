package mailbox

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/emersion/go-imap/v2"
)

var (
	errTooManyKeywords = errors.New("mailbox: too many keywords")
	errFolderFull      = errors.New("mailbox: out of UIDs")
)

const (
	maxKeywords = 100 // in a mailbox
	maxKeyword  = 100 // octets

	// batchMessages, batchWrites and batchSize bound what one change does, so
	// that it fits in a transaction and others get their turn.
	batchMessages = 500
	batchWrites   = 4000
	batchSize     = 256 << 10
)

// large says that a change has done enough.
func (t *tx) large() bool { return len(t.writes) > batchWrites || t.size > batchSize }

// message reads a message; it may have been expunged since its UID was
// learned.
func message(g getter, folder uint64, uid uint32) (*messageRecord, error) {
	m := new(messageRecord)
	return m, g.get(messageKey(folder, uid), m.decode)
}

// add puts a message into a folder of u and returns its UID. It writes u and
// the folder.
func (s *Store) add(t *tx, u *userRecord, id uint64, m *messageRecord) (uint32, error) {
	f, err := folder(t, id)
	if err != nil {
		return 0, err
	}
	known := len(f.keywords)
	uid, err := s.place(t, u, id, f, m)
	if err != nil {
		return 0, err
	}
	t.setFolder(id, f)
	t.set(userKey(f.user), u.encode())
	t.publish(event{folder: id, added: []uint32{uid}, keywords: len(f.keywords) > known})
	return uid, nil
}

// place writes a message with the next UID of f, and counts it in u and f,
// which the caller writes.
func (s *Store) place(t *tx, u *userRecord, id uint64, f *folderRecord, m *messageRecord) (uint32, error) {
	if s.options.Quota > 0 && u.bytes+m.size > s.options.Quota {
		return 0, ErrOverQuota
	}
	if f.uidNext == math.MaxUint32 {
		return 0, errFolderFull
	}
	if _, err := f.learn(m.keywords); err != nil {
		return 0, err
	}
	uid := f.uidNext
	f.uidNext++
	f.count(m, 1)
	u.bytes += m.size
	u.messages++
	t.set(messageKey(id, uid), m.encode())
	return uid, nil
}

// learn adds keywords to those of the mailbox, and says whether any was new.
func (f *folderRecord) learn(keywords []string) (bool, error) {
	news := false
	for _, k := range keywords {
		if slices.ContainsFunc(f.keywords, func(o string) bool { return strings.EqualFold(o, k) }) {
			continue
		}
		if len(f.keywords) >= maxKeywords {
			return false, errTooManyKeywords
		}
		f.keywords = append(f.keywords, k)
		news = true
	}
	return news, nil
}

// parseFlags splits the flags that a client sent. \Recent cannot be set, and
// no other flag that begins with \ is known. A keyword gets the case in which
// the mailbox knows it already.
func (f *folderRecord) parseFlags(flags []imap.Flag) (systemFlags, []string, error) {
	var system systemFlags
	var keywords []string
next:
	for _, flag := range flags {
		for i, name := range systemFlagNames {
			if strings.EqualFold(string(name), string(flag)) {
				system |= 1 << i
				continue next
			}
		}
		k := string(flag)
		if k == "" || k[0] == '\\' {
			continue
		}
		if len(k) > maxKeyword {
			return 0, nil, errTooManyKeywords
		}
		if i := slices.IndexFunc(f.keywords, func(o string) bool { return strings.EqualFold(o, k) }); i >= 0 {
			k = f.keywords[i]
		}
		if !slices.ContainsFunc(keywords, func(o string) bool { return strings.EqualFold(o, k) }) {
			keywords = append(keywords, k)
		}
	}
	slices.Sort(keywords)
	return system, keywords, nil
}

// expunge removes messages from a folder, those that are still there. It
// returns the UIDs removed; the rest of uids it left for another change, when
// rest is not empty.
func (t *tx) expunge(id uint64, uids []uint32) (removed, rest []uint32, err error) {
	f, err := folder(t, id)
	if err != nil {
		return nil, nil, err
	}
	u, err := t.user(f.user)
	if err != nil {
		return nil, nil, err
	}
	for i, uid := range uids {
		if i == batchMessages || t.large() {
			rest = uids[i:]
			break
		}
		m, err := message(t, id, uid)
		if notFound(err) {
			continue
		} else if err != nil {
			return nil, nil, err
		}
		if err := t.unlink(m.blob); err != nil {
			return nil, nil, err
		}
		t.take(id, uid, u, f, m)
		removed = append(removed, uid)
	}
	t.setFolder(id, f)
	t.set(userKey(f.user), u.encode())
	t.publish(event{folder: id, removed: removed})
	return removed, rest, nil
}

// take removes a message from a folder, but leaves its blob.
func (t *tx) take(id uint64, uid uint32, u *userRecord, f *folderRecord, m *messageRecord) {
	t.delete(messageKey(id, uid))
	f.count(m, -1)
	u.bytes -= m.size
	u.messages--
}

// expungeAll expunges in as many changes as it takes.
func (s *Store) expungeAll(id uint64, uids []uint32) error {
	for len(uids) > 0 {
		var rest []uint32
		err := s.committer.do(func(t *tx) error {
			var err error
			_, rest, err = t.expunge(id, uids)
			return err
		})
		if err != nil {
			return err
		}
		uids = rest
	}
	return nil
}

// purge deletes the messages of a folder that is gone already.
func (s *Store) purge(id uint64) error {
	for {
		var uids []uint32
		err := s.view(func(v snapshot) error {
			err := v.scan(numberKey(kindMessage, id), func(item *badger.Item) error {
				if uids = append(uids, keyUID(item.Key())); len(uids) == batchMessages {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				err = nil
			}
			return err
		})
		if err != nil {
			return err
		}
		err = s.committer.do(func(t *tx) error {
			if len(uids) == 0 {
				t.delete(numberKey(kindRemoved, id))
			}
			for _, uid := range uids {
				m, err := message(t, id, uid)
				if notFound(err) {
					continue
				} else if err != nil {
					return err
				}
				if err := t.unlink(m.blob); err != nil {
					return err
				}
				t.delete(messageKey(id, uid))
				if t.large() {
					break
				}
			}
			return nil
		})
		if err != nil || len(uids) == 0 {
			return err
		}
	}
}

// errEnough ends a scan early.
var errEnough = errors.New("enough")

// uids lists the messages of a folder.
func (v snapshot) uids(id uint64) ([]uint32, error) {
	var list []uint32
	err := v.scan(numberKey(kindMessage, id), func(item *badger.Item) error {
		list = append(list, keyUID(item.Key()))
		return nil
	})
	return slices.Clip(list), err
}
