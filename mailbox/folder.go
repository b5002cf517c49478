package mailbox

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/emersion/go-imap/v2"
)

var (
	errNoFolder     = errors.New("mailbox: no such mailbox")
	errFolderExists = errors.New("mailbox: mailbox exists")
	errHasChildren  = errors.New("mailbox: mailbox has children")
	errTooMany      = errors.New("mailbox: too many mailboxes")
	errUserRemoved  = errors.New("account removed") // what sessions say
	errUseTaken     = errors.New("mailbox: special use is taken")
)

// firstFolders are what every user has from the first use on (RFC 6154).
var firstFolders = []struct {
	name string
	use  imap.MailboxAttr
}{
	{inbox, ""},
	{"Sent", imap.MailboxAttrSent},
	{"Drafts", imap.MailboxAttrDrafts},
	{"Trash", imap.MailboxAttrTrash},
	{"Junk", imap.MailboxAttrJunk},
	{"Archive", imap.MailboxAttrArchive},
}

// openUser returns the record of a user, who is created on first use, but not
// again after RemoveUser: a delivery may have looked its recipient up before.
func (t *tx) openUser(user string, now time.Time) (*userRecord, error) {
	u := new(userRecord)
	err := t.get(userKey(user), u.decode)
	if !notFound(err) {
		return u, err
	}
	err = t.get(tombstoneKey(user), func([]byte) error { return ErrRemoved })
	if !notFound(err) {
		return nil, err
	}
	if u.n, err = t.nextNumber(); err != nil {
		return nil, err
	}
	for _, f := range firstFolders {
		if _, err := t.createFolder(u, user, f.name, f.use, now); err != nil {
			return nil, err
		}
		t.set(nameKey(kindSubscribe, u.n, f.name), present)
	}
	return u, nil
}

// user returns the record of a user who has not been removed.
func (t *tx) user(user string) (*userRecord, error) {
	u := new(userRecord)
	err := t.get(userKey(user), u.decode)
	if notFound(err) {
		err = errNoFolder
	}
	return u, err
}

// nextNumber returns a number that no user or folder ever had.
func (t *tx) nextNumber() (uint64, error) {
	var m metaRecord
	if err := t.get(metaKey(), m.decode); err != nil && !notFound(err) {
		return 0, err
	}
	m.number++
	t.set(metaKey(), m.encode())
	return m.number, nil
}

// nextUIDValidity returns a value greater than all before it, also those lost
// when an older backup was restored: unless mailboxes were created faster than
// one a second for long, the time is greater than all of them.
func (t *tx) nextUIDValidity(now time.Time) (uint32, error) {
	var m metaRecord
	if err := t.get(metaKey(), m.decode); err != nil && !notFound(err) {
		return 0, err
	}
	if m.uidValidity == math.MaxUint32 {
		return 0, errors.New("mailbox: out of UIDVALIDITY values")
	}
	m.uidValidity = max(m.uidValidity+1, clampUint32(now.Unix()))
	t.set(metaKey(), m.encode())
	return m.uidValidity, nil
}

// createFolder creates a mailbox of u, without its parents, and writes u.
func (t *tx) createFolder(u *userRecord, user, name string, use imap.MailboxAttr, now time.Time) (uint64, error) {
	if u.folders >= maxFolders {
		return 0, errTooMany
	}
	id, err := t.nextNumber()
	if err != nil {
		return 0, err
	}
	validity, err := t.nextUIDValidity(now)
	if err != nil {
		return 0, err
	}
	f := folderRecord{
		userN: u.n, user: user, use: use,
		uidValidity: validity, uidNext: 1, recent: 1,
	}
	u.folders++
	t.set(nameKey(kindName, u.n, name), uintValue(id))
	t.set(numberKey(kindFolder, id), f.encode())
	t.set(userKey(user), u.encode())
	return id, nil
}

// folderID finds a mailbox by its canonical name.
func folderID(g getter, userN uint64, name string) (uint64, error) {
	id, err := getUint(g, nameKey(kindName, userN, name), 0)
	if err == nil && id == 0 {
		err = errNoFolder
	}
	return id, err
}

func (t *tx) folderID(userN uint64, name string) (uint64, error) { return folderID(t, userN, name) }

// folder reads a mailbox; it may have been deleted since its ID was learned.
func folder(g getter, id uint64) (*folderRecord, error) {
	f := new(folderRecord)
	err := g.get(numberKey(kindFolder, id), f.decode)
	if notFound(err) {
		err = errNoFolder
	}
	return f, err
}

func (t *tx) setFolder(id uint64, f *folderRecord) {
	t.set(numberKey(kindFolder, id), f.encode())
}

// folderNames returns the names of a user's mailboxes that begin with prefix,
// in order. One change at a time reads them from what is on disk, so that it
// must not have renamed any of them before.
func (v snapshot) folderNames(kind byte, userN uint64, prefix string) ([]string, error) {
	var names []string
	err := v.scan(nameKey(kind, userN, prefix), func(item *badger.Item) error {
		names = append(names, keyName(item.Key()))
		return nil
	})
	return names, err
}

// create makes a mailbox and the parents it lacks.
func (t *tx) create(user, name string, use imap.MailboxAttr, now time.Time) error {
	u, err := t.user(user)
	if err != nil {
		return err
	}
	if _, err := t.folderID(u.n, name); err == nil {
		return errFolderExists
	} else if !errors.Is(err, errNoFolder) {
		return err
	}
	if use != "" {
		if err := t.checkUse(u.n, use); err != nil {
			return err
		}
	}
	if err := t.createParents(u, user, name, now); err != nil {
		return err
	}
	_, err = t.createFolder(u, user, name, use, now)
	return err
}

func (t *tx) createParents(u *userRecord, user, name string, now time.Time) error {
	for _, parent := range parents(name) {
		_, err := t.folderID(u.n, parent)
		if errors.Is(err, errNoFolder) {
			_, err = t.createFolder(u, user, parent, "", now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkUse makes sure that no other mailbox has the use.
func (t *tx) checkUse(userN uint64, use imap.MailboxAttr) error {
	names, err := t.base.folderNames(kindName, userN, "")
	if err != nil {
		return err
	}
	for _, name := range names {
		id, err := t.folderID(userN, name)
		if err != nil {
			return err
		}
		f, err := folder(t, id)
		if err != nil {
			return err
		}
		if strings.EqualFold(string(f.use), string(use)) {
			return errUseTaken
		}
	}
	return nil
}

// deleteFolder makes a mailbox disappear; purge deletes its messages.
func (t *tx) deleteFolder(user, name string) (uint64, error) {
	u, err := t.user(user)
	if err != nil {
		return 0, err
	}
	id, err := t.folderID(u.n, name)
	if err != nil {
		return 0, err
	}
	children, err := t.base.folderNames(kindName, u.n, name+delimiterStr)
	if err != nil {
		return 0, err
	}
	if len(children) > 0 {
		return 0, errHasChildren
	}
	f, err := folder(t, id)
	if err != nil {
		return 0, err
	}
	u.folders--
	u.bytes -= f.bytes
	u.messages -= f.messages
	t.set(userKey(user), u.encode())
	t.delete(nameKey(kindName, u.n, name))
	t.dropFolder(id)
	return id, nil
}

func (t *tx) dropFolder(id uint64) {
	t.delete(numberKey(kindFolder, id))
	t.set(numberKey(kindRemoved, id), present)
	t.publish(event{folder: id, gone: true})
}

// removeUser makes a user disappear for good, and returns the folders left to
// purge.
func (t *tx) removeUser(user string) ([]uint64, error) {
	t.set(tombstoneKey(user), present)
	u, err := t.user(user)
	if errors.Is(err, errNoFolder) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	names, err := t.base.folderNames(kindName, u.n, "")
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, name := range names {
		id, err := t.folderID(u.n, name)
		if err != nil {
			return nil, err
		}
		t.delete(nameKey(kindName, u.n, name))
		t.dropFolder(id)
		ids = append(ids, id)
	}
	subscribed, err := t.base.folderNames(kindSubscribe, u.n, "")
	if err != nil {
		return nil, err
	}
	for _, name := range subscribed {
		t.delete(nameKey(kindSubscribe, u.n, name))
	}
	t.delete(userKey(user))
	return ids, nil
}

// rename renames a mailbox other than INBOX, and all below it.
func (t *tx) rename(user, from, to string, now time.Time) error {
	u, err := t.user(user)
	if err != nil {
		return err
	}
	if _, err := t.folderID(u.n, from); err != nil {
		return err
	}
	names, err := t.base.folderNames(kindName, u.n, from+delimiterStr)
	if err != nil {
		return err
	}
	for _, name := range slices.Concat([]string{from}, names) {
		renamed := to + strings.TrimPrefix(name, from)
		if _, ok := canonicalName(renamed); !ok {
			return errBadName
		}
		if _, err := t.folderID(u.n, renamed); err == nil {
			return errFolderExists
		} else if !errors.Is(err, errNoFolder) {
			return err
		}
		id, err := t.folderID(u.n, name)
		if err != nil {
			return err
		}
		t.delete(nameKey(kindName, u.n, name))
		t.set(nameKey(kindName, u.n, renamed), uintValue(id))
	}
	return t.createParents(u, user, to, now)
}
