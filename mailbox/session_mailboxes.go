package mailbox

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

// Create makes a mailbox, also with a special use (RFC 6154). A trailing
// delimiter says that the client means to create others below (RFC 9051
// section 6.3.4), which is always possible.
func (s *session) Create(name string, options *imap.CreateOptions) error {
	name, ok := canonicalName(strings.TrimSuffix(name, delimiterStr))
	if !ok {
		return s.reply(errBadName)
	}
	use, err := specialUse(options.SpecialUse)
	if err != nil {
		return err
	}
	return s.reply(s.store.committer.do(func(t *tx) error {
		return t.create(s.user, name, use, s.store.options.Now())
	}))
}

// specialUse accepts one of the uses that a mailbox with mail of its own can
// have.
func specialUse(attrs []imap.MailboxAttr) (imap.MailboxAttr, error) {
	if len(attrs) == 0 {
		return "", nil
	}
	for _, f := range firstFolders {
		if f.use != "" && len(attrs) == 1 && strings.EqualFold(string(f.use), string(attrs[0])) {
			return f.use, nil
		}
	}
	return "", no("USEATTR", "Special use is not supported")
}

// Delete removes a mailbox with all its messages, but not one with children.
func (s *session) Delete(name string) error {
	name, ok := canonicalName(name)
	if !ok {
		return s.reply(errNoFolder)
	}
	if name == inbox {
		return no(imap.ResponseCodeCannot, "INBOX cannot be deleted")
	}
	var id uint64
	err := s.store.committer.do(func(t *tx) (err error) {
		id, err = t.deleteFolder(s.user, name)
		return err
	})
	if err == nil {
		err = s.store.purge(id)
	}
	return s.reply(err)
}

// Rename renames a mailbox and those below it. Renaming INBOX moves its
// messages to a new mailbox, and leaves INBOX and what is below it (RFC 9051
// section 6.3.6).
func (s *session) Rename(from, to string, options *imap.RenameOptions) error {
	from, ok := canonicalName(from)
	if !ok {
		return s.reply(errNoFolder)
	}
	to, ok = canonicalName(strings.TrimSuffix(to, delimiterStr))
	if !ok {
		return s.reply(errBadName)
	}
	if from == inbox {
		return s.reply(s.renameInbox(to))
	}
	if strings.HasPrefix(to, from+delimiterStr) {
		return no(imap.ResponseCodeCannot, "A mailbox cannot be moved below itself")
	}
	return s.reply(s.store.committer.do(func(t *tx) error {
		return t.rename(s.user, from, to, s.store.options.Now())
	}))
}

func (s *session) renameInbox(to string) error {
	err := s.store.committer.do(func(t *tx) error {
		return t.create(s.user, to, "", s.store.options.Now())
	})
	if err != nil {
		return err
	}
	var source, dest uint64
	var uids []uint32
	err = s.store.view(func(v snapshot) (err error) {
		if source, err = s.find(v, inbox); err != nil {
			return err
		}
		if dest, err = s.find(v, to); err != nil {
			return err
		}
		uids, err = v.uids(source)
		return err
	})
	if err != nil {
		return err
	}
	_, err = s.store.transfer(transfer{from: source, to: dest, move: true}, uids)
	return err
}

// Subscribe adds a mailbox to the subscribed ones.
func (s *session) Subscribe(name string) error {
	name, ok := canonicalName(name)
	if !ok {
		return s.reply(errNoFolder)
	}
	return s.reply(s.store.committer.do(func(t *tx) error {
		if _, err := s.find(t, name); err != nil {
			return err
		}
		u, err := t.user(s.user)
		if err != nil {
			return err
		}
		err = t.get(nameKey(kindSubscribe, u.n, name), func([]byte) error { return nil })
		if !notFound(err) { // subscribed already, or err says why not
			return err
		}
		names, err := t.base.folderNames(kindSubscribe, u.n, "")
		if err != nil {
			return err
		}
		if len(names) >= maxFolders { // those of deleted mailboxes stay
			return errTooMany
		}
		t.set(nameKey(kindSubscribe, u.n, name), present)
		return nil
	}))
}

// Unsubscribe takes a mailbox from the subscribed ones; it need not exist any
// more.
func (s *session) Unsubscribe(name string) error {
	name, ok := canonicalName(name)
	if !ok {
		return s.reply(errNoFolder)
	}
	return s.reply(s.store.committer.do(func(t *tx) error {
		u, err := t.user(s.user)
		if err != nil {
			return err
		}
		t.delete(nameKey(kindSubscribe, u.n, name))
		return nil
	}))
}

// Status returns the counters of a mailbox.
func (s *session) Status(name string, options *imap.StatusOptions) (*imap.StatusData, error) {
	name, _ = canonicalName(name) // what is no name does not exist
	var data *imap.StatusData
	err := s.store.view(func(v snapshot) error {
		id, err := s.find(v, name)
		if err != nil {
			return err
		}
		f, err := folder(v, id)
		if err != nil {
			return err
		}
		data = s.status(name, f)
		return nil
	})
	return data, s.reply(err)
}

func (s *session) status(name string, f *folderRecord) *imap.StatusData {
	messages, unseen, deleted := clampUint32(f.messages), clampUint32(f.unseen), clampUint32(f.deleted)
	recent := min(f.uidNext-f.recent, messages) // an estimate once some are expunged
	limit := s.AppendLimit()
	return &imap.StatusData{
		Mailbox:        name,
		NumMessages:    &messages,
		NumRecent:      &recent,
		UIDNext:        imap.UID(f.uidNext),
		UIDValidity:    f.uidValidity,
		NumUnseen:      &unseen,
		NumDeleted:     &deleted,
		Size:           &f.bytes,
		AppendLimit:    &limit,
		DeletedStorage: &f.deletedSize,
	}
}
