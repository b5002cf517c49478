package mailbox

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// Store changes flags, and reports them unless the client asked for silence.
func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, flags *imap.StoreFlags, _ *imap.StoreOptions) error {
	sel, err := s.writable()
	if err != nil {
		return err
	}
	uids := sel.resolve(set)
	for len(uids) > 0 {
		flagged, rest, err := s.store.storeFlags(sel, uids, flags)
		if err != nil {
			return s.reply(err)
		}
		uids = rest
		if flags.Silent {
			continue
		}
		for _, m := range flagged {
			r := w.CreateMessage(sel.view.seq(m.uid))
			r.WriteUID(imap.UID(m.uid))
			r.WriteFlags(m.flagList(sel.isRecent(m.uid)))
			if err := r.Close(); err != nil {
				return s.reply(told(err))
			}
		}
	}
	return nil
}

// flaggedMessage is a message after its flags were stored.
type flaggedMessage struct {
	uid uint32
	messageRecord
}

// storeFlags changes the flags of messages in one change. It returns those that
// still exist, and the rest of uids that it left for another change.
func (s *Store) storeFlags(sel *selection, uids []uint32, flags *imap.StoreFlags) (flagged []flaggedMessage, rest []uint32, err error) {
	err = s.committer.do(func(t *tx) error {
		flagged, rest = flagged[:0], nil
		f, err := folder(t, sel.id)
		if err != nil {
			return err
		}
		system, keywords, err := f.parseFlags(flags.Flags)
		if err != nil {
			return err
		}
		news := false
		if flags.Op != imap.StoreFlagsDel {
			if news, err = f.learn(keywords); err != nil {
				return err
			}
		}
		e := event{folder: sel.id, source: sel.view, keywords: news}
		for i, uid := range uids {
			if i == batchMessages || t.large() {
				rest = uids[i:]
				break
			}
			m, err := message(t, sel.id, uid)
			if notFound(err) {
				continue
			} else if err != nil {
				return err
			}
			before := *m
			m.change(flags.Op, system, keywords)
			if m.flags != before.flags || !slices.Equal(m.keywords, before.keywords) {
				f.count(&before, -1)
				f.count(m, 1)
				t.set(messageKey(sel.id, uid), m.encode())
				e.changed = append(e.changed, uid)
			}
			flagged = append(flagged, flaggedMessage{uid, *m})
		}
		if len(e.changed) > 0 || news {
			t.setFolder(sel.id, f)
			t.publish(e)
		}
		return nil
	})
	return flagged, rest, err
}

// change applies a STORE. Keywords are sorted.
func (m *messageRecord) change(op imap.StoreFlagsOp, system systemFlags, keywords []string) {
	same := func(list []string, k string) bool {
		return slices.ContainsFunc(list, func(o string) bool { return strings.EqualFold(o, k) })
	}
	switch op {
	case imap.StoreFlagsSet:
		m.flags, m.keywords = system, keywords
	case imap.StoreFlagsAdd:
		m.flags |= system
		all := slices.Clone(m.keywords)
		for _, k := range keywords {
			if !same(all, k) {
				all = append(all, k)
			}
		}
		slices.Sort(all)
		m.keywords = all
	case imap.StoreFlagsDel:
		m.flags &^= system
		m.keywords = slices.DeleteFunc(slices.Clone(m.keywords), func(k string) bool { return same(keywords, k) })
	}
}

// Expunge removes the messages flagged \Deleted, of uids only if that is not
// nil. They are reported by the Poll that follows, or not at all when this is
// part of CLOSE, which a read-only mailbox allows but for which nothing is
// removed (RFC 9051 section 6.4.1).
func (s *session) Expunge(w *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	closing := *w == imapserver.ExpungeWriter{}
	sel, err := s.writable()
	if err != nil {
		if closing && sel != nil {
			return nil
		}
		return err
	}
	candidates := sel.view.uids
	if uids != nil {
		candidates = sel.resolve(*uids)
	}
	var deleted []uint32
	err = s.store.view(func(v snapshot) error {
		for _, uid := range candidates {
			m, err := message(v, sel.id, uid)
			if notFound(err) {
				continue
			} else if err != nil {
				return err
			}
			if m.flags&flagDeleted != 0 {
				deleted = append(deleted, uid)
			}
		}
		return nil
	})
	if err == nil {
		err = s.store.expungeAll(sel.id, deleted)
	}
	return s.reply(err)
}
