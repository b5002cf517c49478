package mailbox

import (
	"math"

	"github.com/dgraph-io/badger/v4"
	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// fetchBatch is how many messages are read in one snapshot: a slow client
// should not pin the state of the database for hours.
const fetchBatch = 100

// maxSections bounds the sections of one FETCH.
const maxSections = 200

// Fetch writes what the client wants to know of messages. Bodies are streamed,
// structures were computed at delivery.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, options *imap.FetchOptions) error {
	sel, err := s.current()
	if err != nil {
		return err
	}
	if err := checkSections(options); err != nil {
		return err
	}
	uids := sel.resolve(set)
	seen := marksSeen(options) && !sel.readOnly
	for len(uids) > 0 {
		f := fetch{session: s, sel: sel, options: options}
		batch := uids[:min(len(uids), fetchBatch)]
		uids = uids[len(batch):]
		if seen {
			if f.flagged, err = s.markSeen(sel, batch); err != nil {
				return s.reply(err)
			}
		}
		err := s.store.view(func(v snapshot) error { return f.batch(v, w, batch) })
		if err != nil {
			return s.reply(err)
		}
	}
	return nil
}

func checkSections(options *imap.FetchOptions) error {
	if len(options.BodySection)+len(options.BinarySection)+len(options.BinarySectionSize) > maxSections {
		return no(imap.ResponseCodeLimit, "Too many sections")
	}
	for _, section := range options.BodySection {
		if !validPartial(section.Partial) {
			return clientBug("Bad partial range")
		}
	}
	for _, section := range options.BinarySection {
		if !validPartial(section.Partial) {
			return clientBug("Bad partial range")
		}
	}
	return nil
}

// validPartial refuses what is no partial (RFC 9051: two 32-bit numbers would
// do, RFC 9051 has 63 bits) and what the response could not repeat.
func validPartial(p *imap.SectionPartial) bool {
	return p == nil || p.Offset >= 0 && p.Offset <= math.MaxUint32 && p.Size > 0
}

func marksSeen(options *imap.FetchOptions) bool {
	for _, section := range options.BodySection {
		if !section.Peek {
			return true
		}
	}
	for _, section := range options.BinarySection {
		if !section.Peek {
			return true
		}
	}
	return false
}

// markSeen flags messages \Seen and returns those that were not, so that their
// flags are reported along.
func (s *session) markSeen(sel *selection, uids []uint32) (map[uint32]bool, error) {
	var unseen []uint32
	err := s.store.view(func(v snapshot) error {
		for _, uid := range uids {
			m, err := message(v, sel.id, uid)
			if err == nil && m.flags&flagSeen == 0 {
				unseen = append(unseen, uid)
			} else if err != nil && !notFound(err) {
				return err
			}
		}
		return nil
	})
	if err != nil || len(unseen) == 0 {
		return nil, err
	}
	add := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}}
	changed := make(map[uint32]bool, len(unseen))
	for len(unseen) > 0 {
		flagged, rest, err := s.store.storeFlags(sel, unseen, add)
		if err != nil {
			return nil, err
		}
		for _, m := range flagged {
			changed[m.uid] = true
		}
		unseen = rest
	}
	return changed, nil
}

// fetch is a FETCH of one batch of messages.
type fetch struct {
	session *session
	sel     *selection
	options *imap.FetchOptions
	flagged map[uint32]bool // messages whose flags this FETCH has changed
}

func (f *fetch) batch(v snapshot, w *imapserver.FetchWriter, uids []uint32) error {
	it := v.txn.NewIterator(badger.IteratorOptions{Prefix: numberKey(kindMessage, f.sel.id)})
	defer it.Close()
	for _, uid := range uids {
		key := messageKey(f.sel.id, uid)
		if it.Valid() {
			it.Next() // usually this is the one
		}
		if !it.ValidForPrefix(key) {
			it.Seek(key)
		}
		if !it.ValidForPrefix(key) {
			continue // expunged by another session
		}
		var m messageRecord
		if err := it.Item().Value(m.decode); err != nil {
			return err
		}
		if err := f.message(v, w, uid, &m); err != nil {
			return err
		}
	}
	return nil
}

// message writes one response. Whatever may fail is done before it begins, but
// for reading the content: when that fails in the middle of a literal, there is
// nothing left but to end the connection.
func (f *fetch) message(v snapshot, w *imapserver.FetchWriter, uid uint32, m *messageRecord) error {
	o := f.options
	octets := len(o.BodySection)+len(o.BinarySection)+len(o.BinarySectionSize) > 0
	c := new(content)
	if octets || o.Envelope || o.BodyStructure != nil {
		var err error
		if c, err = f.session.store.openContent(v, m.blob, octets); err == errGone {
			return nil
		} else if err != nil {
			return err
		}
		defer c.Close()
	}
	sections, err := f.sections(c)
	if err != nil {
		return err
	}

	r := w.CreateMessage(f.sel.view.seq(uid))
	if o.UID {
		r.WriteUID(imap.UID(uid))
	}
	if o.Flags || f.flagged[uid] {
		r.WriteFlags(m.flagList(f.sel.isRecent(uid)))
	}
	if o.InternalDate {
		r.WriteInternalDate(m.date)
	}
	if o.RFC822Size {
		r.WriteRFC822Size(m.size)
	}
	if o.Envelope {
		r.WriteEnvelope(c.root.Envelope)
	}
	if o.BodyStructure != nil {
		r.WriteBodyStructure(c.root.BodyStructure())
	}
	for _, section := range sections {
		if err := section.write(r); err != nil {
			f.session.conn.NetConn().Close()
			r.Close()
			return err
		}
	}
	return told(r.Close())
}
