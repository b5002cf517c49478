package mailbox

import (
	"errors"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

var errShutdown = errors.New("server is shutting down")

// flagRecent is IMAP4rev1's flag for what no session has been told of (RFC
// 3501 section 2.3.2). It belongs to a session, not to the message.
const flagRecent imap.Flag = `\Recent`

// session is the IMAP session of a user. imapserver calls its methods one
// after the other.
type session struct {
	store    *Store
	conn     *imapserver.Conn
	user     string
	selected *selection // nil: no mailbox is selected
}

// selection is the selected mailbox.
type selection struct {
	id       uint64
	view     *view
	readOnly bool
	recent   uint32   // messages from this UID on are \Recent
	saved    []uint32 // UIDs of the last search result (RFC 5182)
}

var (
	_ imapserver.SessionIMAP4rev2   = (*session)(nil)
	_ imapserver.SessionAppendLimit = (*session)(nil)
)

func (s *Store) newSession(c *imapserver.Conn, user string) *session {
	return &session{store: s, conn: c, user: user}
}

// Close ends the session.
func (s *session) Close() error {
	s.unselect()
	return nil
}

// Login cannot be called: the session begins in the authenticated state.
func (s *session) Login(string, string) error { return clientBug("Already logged in") }

// AppendLimit implements RFC 7889.
func (s *session) AppendLimit() uint32 { return s.store.appendLimit() }

// Namespace implements RFC 2342: there are personal mailboxes only.
func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: delimiter}}}, nil
}

// current returns the selected mailbox.
func (s *session) current() (*selection, error) {
	if s.selected == nil {
		return nil, clientBug("No mailbox is selected")
	}
	return s.selected, nil
}

// writable is current for commands that change the mailbox.
func (s *session) writable() (*selection, error) {
	sel, err := s.current()
	if err == nil && sel.readOnly {
		err = no("", "The mailbox is selected read-only")
	}
	return sel, err
}

// Poll reports what others have done to the selected mailbox.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	if s.selected == nil {
		return nil
	}
	return s.reply(s.report(w, allowExpunge))
}

// Idle is not called, as the guard does the idling: with idle and Poll.
func (s *session) Idle(_ *imapserver.UpdateWriter, stop <-chan struct{}) error {
	<-stop
	return nil
}

// idle has wake called whenever there may be something to report, until stop.
func (s *session) idle(wake func()) (stop func()) {
	if s.selected == nil {
		return func() {}
	}
	v := s.selected.view
	v.watch(wake)
	return func() { v.watch(nil) }
}

// report writes what is new in the selected mailbox.
func (s *session) report(w *imapserver.UpdateWriter, allowExpunge bool) error {
	sel := s.selected
	n := sel.view.refresh(allowExpunge)
	for _, seq := range n.removed {
		if err := w.WriteExpunge(seq); err != nil {
			return told(err)
		}
	}
	if n.exists {
		if err := w.WriteNumMessages(uint32(len(sel.view.uids))); err != nil {
			return told(err)
		}
		if err := w.WriteNumRecent(sel.numRecent()); err != nil {
			return told(err)
		}
	}
	if n.gone || !n.keywords && !n.all && len(n.changed) == 0 {
		return nil
	}
	return s.store.view(func(v snapshot) error { return s.reportFlags(v, w, n) })
}

func (s *session) reportFlags(v snapshot, w *imapserver.UpdateWriter, n news) error {
	sel := s.selected
	if n.keywords {
		f, err := folder(v, sel.id)
		if errors.Is(err, errNoFolder) {
			return nil
		} else if err != nil {
			return err
		}
		if err := w.WriteMailboxFlags(f.flags()); err != nil {
			return told(err)
		}
	}
	uids := n.changed
	if n.all {
		uids = sel.view.uids
	} else {
		slices.Sort(uids)
		uids = slices.Compact(uids)
	}
	for _, uid := range uids {
		seq := sel.view.seq(uid)
		if seq == 0 {
			continue
		}
		m, err := message(v, sel.id, uid)
		if notFound(err) {
			continue
		} else if err != nil {
			return err
		}
		if err := w.WriteMessageFlags(seq, imap.UID(uid), m.flagList(sel.isRecent(uid))); err != nil {
			return told(err)
		}
	}
	return nil
}

func (sel *selection) isRecent(uid uint32) bool { return uid >= sel.recent }

func (sel *selection) numRecent() uint32 {
	i, _ := slices.BinarySearch(sel.view.uids, sel.recent)
	return uint32(len(sel.view.uids) - i)
}

// resolve returns the UIDs of the messages in set, ascending. Numbers that no
// message has are left out.
func (sel *selection) resolve(set imap.NumSet) []uint32 {
	var found []uint32
	for _, sp := range sel.spans(set) {
		found = append(found, sel.view.uids[sp.from:sp.to]...)
	}
	return found
}

// spans returns the places of the messages in set: ascending, apart from each
// other, and no more of them than set has ranges.
func (sel *selection) spans(set imap.NumSet) []span {
	uids := sel.view.uids
	if imap.IsSearchRes(set) {
		set = uidSet(sel.saved)
	}
	var spans []span
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			first, last := ordered(r.Start, r.Stop, uint32(len(uids)))
			spans = append(spans, span{int(max(first, 1)) - 1, int(min(last, uint32(len(uids))))})
		}
	case imap.UIDSet:
		var highest uint32
		if len(uids) > 0 {
			highest = uids[len(uids)-1]
		}
		for _, r := range set {
			first, last := ordered(uint32(r.Start), uint32(r.Stop), highest)
			i, _ := slices.BinarySearch(uids, first)
			j, found := slices.BinarySearch(uids, last)
			if found {
				j++
			}
			spans = append(spans, span{i, j})
		}
	}
	return disjoint(spans)
}

// span is the half-open range of indexes [from, to).
type span struct{ from, to int }

// disjoint sorts spans and takes away what is empty or in an earlier one.
func disjoint(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	kept := spans[:0]
	next := 0
	for _, sp := range spans {
		if sp.from = max(sp.from, next); sp.from < sp.to {
			kept = append(kept, sp)
			next = sp.to
		}
	}
	return kept
}

// inSpans says whether disjoint spans cover index i.
func inSpans(spans []span, i int) bool {
	n, found := slices.BinarySearchFunc(spans, i, func(sp span, i int) int { return sp.from - i })
	return found || n > 0 && i < spans[n-1].to
}

// ordered replaces 0, which stands for *, by highest, and puts the smaller one
// first.
func ordered(a, b, highest uint32) (uint32, uint32) {
	if a == 0 {
		a = highest
	}
	if b == 0 {
		b = highest
	}
	return min(a, b), max(a, b)
}

// flags are what may be set in a mailbox.
func (f *folderRecord) flags() []imap.Flag {
	list := slices.Clone(systemFlagNames[:])
	for _, k := range f.keywords {
		list = append(list, imap.Flag(k))
	}
	return list
}
