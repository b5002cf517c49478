package mailbox

import (
	"errors"

	"github.com/dgraph-io/badger/v4"
	"github.com/emersion/go-imap/v2"
)

// find returns the ID of a mailbox that the client named.
func (s *session) find(g getter, name string) (uint64, error) {
	name, ok := canonicalName(name)
	if !ok {
		return 0, errNoFolder
	}
	var u userRecord
	if err := g.get(userKey(s.user), u.decode); notFound(err) {
		return 0, errNoFolder
	} else if err != nil {
		return 0, err
	}
	return folderID(g, u.n, name)
}

// Select opens a mailbox. What it returns and what the view holds are of the
// same moment: the change that reads the mailbox sets the view.
func (s *session) Select(name string, options *imap.SelectOptions) (*imap.SelectData, error) {
	s.unselect()
	name, _ = canonicalName(name) // what is no name does not exist
	var id uint64
	err := s.store.view(func(v snapshot) (err error) {
		id, err = s.find(v, name)
		return err
	})
	if err != nil {
		return nil, s.reply(err)
	}
	v, err := s.store.hub.join(id, func() (uids []uint32, err error) {
		err = s.store.view(func(v snapshot) error {
			uids, err = v.uids(id)
			return err
		})
		return uids, err
	})
	if err != nil {
		return nil, s.reply(err)
	}
	sel := &selection{id: id, view: v, readOnly: options.ReadOnly}
	f, err := s.enter(sel, !sel.readOnly)
	if errors.Is(err, ErrFull) { // mail must be readable, and can be deleted
		f, err = s.enter(sel, false)
	}
	if err != nil {
		s.store.hub.leave(v)
		return nil, s.reply(err)
	}
	s.selected = sel
	data, err := s.selectData(name, f)
	if err != nil {
		s.unselect()
	}
	return data, s.reply(err)
}

// enter makes the view current, and returns the mailbox as it was then. With
// recent, its messages are \Recent to this session only.
func (s *session) enter(sel *selection, recent bool) (f *folderRecord, err error) {
	err = s.store.committer.do(func(t *tx) (err error) {
		if f, err = folder(t, sel.id); err != nil {
			return err
		}
		sel.recent = f.recent
		if recent && f.recent != f.uidNext {
			f.recent = f.uidNext
			t.setFolder(sel.id, f)
		}
		t.after = func() { sel.view.refresh(true) }
		return nil
	})
	return f, err
}

func (s *session) selectData(name string, f *folderRecord) (*imap.SelectData, error) {
	sel := s.selected
	data := &imap.SelectData{
		Flags:       f.flags(),
		NumMessages: uint32(len(sel.view.uids)),
		NumRecent:   sel.numRecent(),
		UIDNext:     imap.UID(f.uidNext),
		UIDValidity: f.uidValidity,
	}
	if !sel.readOnly {
		data.PermanentFlags = f.flags()
		if len(f.keywords) < maxKeywords {
			data.PermanentFlags = append(data.PermanentFlags, imap.FlagWildcard)
		}
	}
	if s.conn.EnabledCaps().Has(imap.CapIMAP4rev2) {
		data.List = &imap.ListData{Delim: delimiter, Mailbox: name}
		return data, nil
	}
	if f.unseen == 0 {
		return data, nil
	}
	err := s.store.view(func(v snapshot) error {
		uid, err := v.firstUnseen(sel.id)
		data.FirstUnseenSeqNum = sel.view.seq(uid)
		return err
	})
	return data, err
}

// firstUnseen returns the UID of the first message without \Seen, or 0.
func (v snapshot) firstUnseen(id uint64) (uid uint32, err error) {
	err = v.scan(numberKey(kindMessage, id), func(item *badger.Item) error {
		var m messageRecord
		if err := item.Value(m.decode); err != nil {
			return err
		}
		if m.flags&flagSeen == 0 {
			uid = keyUID(item.Key())
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return uid, err
}

// Unselect closes the selected mailbox.
func (s *session) Unselect() error {
	s.unselect()
	return nil
}

// unselect leaves the selected mailbox, if any. Messages that came while it
// was selected are no longer \Recent for the next session; that this is
// remembered matters too little to report a failure.
func (s *session) unselect() {
	sel := s.selected
	if sel == nil {
		return
	}
	s.selected = nil
	s.store.hub.leave(sel.view)
	n := len(sel.view.uids)
	if sel.readOnly || n == 0 || sel.view.uids[n-1] < sel.recent {
		return
	}
	next := sel.view.uids[n-1] + 1
	err := s.store.committer.do(func(t *tx) error {
		f, err := folder(t, sel.id)
		if err != nil {
			return err
		}
		if f.recent < next {
			f.recent = next
			t.setFolder(sel.id, f)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNoFolder) {
		s.store.options.Log.Debug().Err(err).Msg("remembering recent messages")
	}
}
