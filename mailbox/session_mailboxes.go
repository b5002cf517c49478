package mailbox

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
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
		u, err := t.openUser(s.user, s.store.options.Now())
		if err != nil {
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
		var u userRecord
		if err := t.get(userKey(s.user), u.decode); notFound(err) {
			return errNoFolder
		} else if err != nil {
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

// List writes the mailboxes that match (RFC 9051 section 6.3.9, also with the
// options of LIST-EXTENDED, LIST-STATUS and SPECIAL-USE), and those of LSUB.
func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, options *imap.ListOptions) error {
	if len(patterns) == 0 { // the client asks for the delimiter
		none := &imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: delimiter}
		return s.reply(told(w.WriteList(none)))
	}
	var compiled []pattern
	for _, p := range patterns {
		if c, ok := newPattern(ref, p); ok {
			compiled = append(compiled, c)
		}
	}
	const maxPatterns = 100
	if len(compiled) > maxPatterns {
		return no(imap.ResponseCodeLimit, "Too many patterns")
	}
	var found []*imap.ListData
	err := s.store.view(func(v snapshot) (err error) {
		found, err = s.list(v, compiled, options)
		return err
	})
	if err != nil {
		return s.reply(err)
	}
	for _, data := range found {
		if err := w.WriteList(data); err != nil {
			return s.reply(told(err))
		}
	}
	return nil
}

func (s *session) list(v snapshot, patterns []pattern, options *imap.ListOptions) ([]*imap.ListData, error) {
	var u userRecord
	if err := v.get(userKey(s.user), u.decode); notFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	names, err := v.folderNames(kindName, u.n, "")
	if err != nil {
		return nil, err
	}
	subscribed, err := v.folderNames(kindSubscribe, u.n, "")
	if err != nil {
		return nil, err
	}
	candidates := names
	if options.SelectSubscribed {
		candidates = slices.Concat(names, subscribed)
		slices.Sort(candidates)
		candidates = slices.Compact(candidates)
	}
	var found []*imap.ListData
	for _, name := range candidates {
		if !anyMatch(patterns, name) {
			continue
		}
		data, ok := listSubscription(name, names, subscribed, options)
		if !ok {
			continue
		}
		if err := s.listFolder(v, u.n, data, options); err != nil {
			return nil, err
		}
		if options.SelectSpecialUse && !slices.ContainsFunc(data.Attrs, isUse) {
			continue
		}
		found = append(found, data)
	}
	return found, nil
}

// listSubscription begins the data of a mailbox with what the names alone
// tell, and says whether it is selected. The lists of names are sorted.
func listSubscription(name string, names, subscribed []string, options *imap.ListOptions) (*imap.ListData, bool) {
	data := &imap.ListData{Delim: delimiter, Mailbox: name}
	_, isSubscribed := slices.BinarySearch(subscribed, name)
	if options.SelectSubscribed {
		if options.SelectRecursiveMatch && hasChild(subscribed, name) {
			data.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
		}
		if !isSubscribed && data.ChildInfo == nil {
			return nil, false
		}
	}
	if isSubscribed && (options.SelectSubscribed || options.ReturnSubscribed) {
		data.Attrs = append(data.Attrs, imap.MailboxAttrSubscribed)
	}
	if _, exists := slices.BinarySearch(names, name); !exists {
		data.Attrs = append(data.Attrs, imap.MailboxAttrNonExistent)
	}
	if hasChild(names, name) {
		data.Attrs = append(data.Attrs, imap.MailboxAttrHasChildren)
	} else {
		data.Attrs = append(data.Attrs, imap.MailboxAttrHasNoChildren)
	}
	return data, true
}

// listFolder adds what the mailbox itself tells, if it exists.
func (s *session) listFolder(v snapshot, userN uint64, data *imap.ListData, options *imap.ListOptions) error {
	if slices.Contains(data.Attrs, imap.MailboxAttrNonExistent) {
		return nil
	}
	id, err := folderID(v, userN, data.Mailbox)
	if err != nil {
		return err
	}
	f, err := folder(v, id)
	if err != nil {
		return err
	}
	if f.use != "" {
		data.Attrs = append(data.Attrs, f.use)
	}
	if options.ReturnStatus != nil {
		data.Status = s.status(data.Mailbox, f)
	}
	return nil
}

func isUse(attr imap.MailboxAttr) bool {
	return slices.ContainsFunc(firstFolders, func(f struct {
		name string
		use  imap.MailboxAttr
	}) bool {
		return f.use == attr
	})
}

// hasChild says whether sorted names have one below name.
func hasChild(names []string, name string) bool {
	prefix := name + delimiterStr
	i, _ := slices.BinarySearch(names, prefix)
	return i < len(names) && strings.HasPrefix(names[i], prefix)
}
