package mailbox

import (
	"context"
	"io"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// Append adds a message to a mailbox.
func (s *session) Append(name string, r imap.LiteralReader, options *imap.AppendOptions) (*imap.AppendData, error) {
	var id uint64
	err := s.store.view(func(v snapshot) (err error) {
		if id, err = s.find(v, name); err != nil {
			return err
		}
		return s.checkQuota(v, r.Size())
	})
	if err != nil {
		return nil, s.tryCreate(err)
	}
	literal := &exactly{r: r, left: r.Size()}
	u, err := s.store.receive(context.Background(), literal)
	if literal.err != nil {
		return nil, no("", "Message was cut off") // nobody hears this
	} else if err != nil {
		return nil, s.reply(err)
	}
	defer u.finish()
	data := new(imap.AppendData)
	err = u.store(1, func(t *tx) error {
		f, err := folder(t, id)
		if err != nil {
			return err
		}
		user, err := t.user(s.user)
		if err != nil {
			return err
		}
		m := messageRecord{blob: u.id, size: u.size, date: options.Time}
		if m.date.IsZero() {
			m.date = s.store.options.Now()
		}
		if m.flags, m.keywords, err = f.parseFlags(options.Flags); err != nil {
			return err
		}
		uid, err := s.store.add(t, user, id, &m)
		data.UID, data.UIDValidity = imap.UID(uid), f.uidValidity
		return err
	})
	if err != nil {
		return nil, s.tryCreate(err)
	}
	return data, nil
}

// checkQuota refuses a message early, before it is read.
func (s *session) checkQuota(g getter, size int64) error {
	var u userRecord
	if err := g.get(userKey(s.user), u.decode); err != nil {
		return err
	}
	if quota := s.store.options.Quota; quota > 0 && u.bytes+size > quota {
		return ErrOverQuota
	}
	return nil
}

// exactly reads a literal, for which imapserver reports the end of the
// connection as the end of the literal.
type exactly struct {
	r    io.Reader
	left int64
	err  error // why there is no more, before the end
}

func (e *exactly) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != io.EOF {
		e.err = err
	}
	return n, err
}

// Copy copies messages to another mailbox, all or none.
func (s *session) Copy(set imap.NumSet, name string) (*imap.CopyData, error) {
	sel, err := s.current()
	if err != nil {
		return nil, err
	}
	return s.transfer(sel, set, name, false)
}

// Move moves messages to another mailbox (RFC 6851), each of them entirely.
// The Poll that follows reports them as expunged.
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, name string) error {
	sel, err := s.writable()
	if err != nil {
		return err
	}
	data, err := s.transfer(sel, set, name, true)
	if data != nil {
		if err := w.WriteCopyData(data); err != nil {
			return s.reply(told(err))
		}
	}
	return err
}

// transfer returns nil data when nothing was transferred: there is no empty
// COPYUID.
func (s *session) transfer(sel *selection, set imap.NumSet, name string, move bool) (*imap.CopyData, error) {
	var dest uint64
	err := s.store.view(func(v snapshot) (err error) {
		dest, err = s.find(v, name)
		return err
	})
	if err != nil {
		return nil, s.tryCreate(err)
	}
	done, err := s.store.transfer(transfer{from: sel.id, to: dest, move: move}, sel.resolve(set))
	if len(done.source) == 0 {
		return nil, s.tryCreate(err)
	}
	return &imap.CopyData{
		UIDValidity: done.uidValidity,
		SourceUIDs:  uidSet(done.source),
		DestUIDs:    uidSet(done.dest),
	}, s.tryCreate(err)
}

// transfer says where to copy or move messages of one user.
type transfer struct {
	from, to uint64
	move     bool
}

// transferred is what came of it: two lists of the same length.
type transferred struct {
	uidValidity  uint32
	source, dest []uint32
}

// transfer copies or moves messages in as many changes as it takes. A failed
// copy leaves nothing behind, a failed move what was moved.
func (s *Store) transfer(tr transfer, uids []uint32) (transferred, error) {
	var all transferred
	for len(uids) > 0 {
		var done transferred
		var rest []uint32
		err := s.committer.do(func(t *tx) (err error) {
			done, rest, err = s.transferBatch(t, tr, uids)
			return err
		})
		if err != nil {
			if !tr.move && len(all.dest) > 0 {
				if undo := s.expungeAll(tr.to, all.dest); undo != nil {
					s.options.Log.Error().Err(undo).Msg("undoing a copy")
				}
				all = transferred{}
			}
			return all, err
		}
		uids = rest
		all.uidValidity = done.uidValidity
		all.source = append(all.source, done.source...)
		all.dest = append(all.dest, done.dest...)
	}
	return all, nil
}

// transferBatch does as much of a transfer as fits in one change, and returns
// the rest of uids.
func (s *Store) transferBatch(t *tx, tr transfer, uids []uint32) (done transferred, rest []uint32, err error) {
	source, err := folder(t, tr.from)
	if err != nil {
		return done, nil, err
	}
	dest := source
	if tr.to != tr.from {
		if dest, err = folder(t, tr.to); err != nil {
			return done, nil, err
		}
	}
	u, err := t.user(source.user)
	if err != nil {
		return done, nil, err
	}
	known := len(dest.keywords)
	for i, uid := range uids {
		if i == batchMessages || t.large() {
			rest = uids[i:]
			break
		}
		m, err := message(t, tr.from, uid)
		if notFound(err) {
			continue
		} else if err != nil {
			return done, nil, err
		}
		if tr.move {
			t.take(tr.from, uid, u, source, m)
		} else if err := t.link(m.blob); err != nil {
			return done, nil, err
		}
		placed, err := s.place(t, u, tr.to, dest, m)
		if err != nil {
			return done, nil, err
		}
		done.source = append(done.source, uid)
		done.dest = append(done.dest, placed)
	}
	done.uidValidity = dest.uidValidity
	t.setFolder(tr.from, source)
	t.setFolder(tr.to, dest)
	t.set(userKey(source.user), u.encode())
	t.publish(event{folder: tr.to, added: done.dest, keywords: len(dest.keywords) > known})
	if tr.move {
		t.publish(event{folder: tr.from, removed: done.source})
	}
	return done, rest, nil
}

func uidSet(uids []uint32) imap.UIDSet {
	var set imap.UIDSet
	for i := 0; i < len(uids); {
		j := i + 1
		for j < len(uids) && uids[j] == uids[j-1]+1 {
			j++
		}
		set = append(set, imap.UIDRange{Start: imap.UID(uids[i]), Stop: imap.UID(uids[j-1])})
		i = j
	}
	return set
}
