package mailbox

import (
	"errors"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/emersion/go-imap/v2"
)

// errSearchLimit says that a search is more work than one command may be.
var errSearchLimit = errors.New("mailbox: search limit")

const (
	searchTime   = 8 * time.Second
	maxCriteria  = 100      // NOT and OR inside one another
	maxTextField = 64 << 10 // octets of a header field that are searched
)

// search finds the messages of a selected mailbox that meet criteria.
type search struct {
	sel      *selection
	criteria *imap.SearchCriteria
	sets     map[*imap.SearchCriteria][][]span
	saved    []span // the places of the last search result
	deadline time.Time
	store    *Store
}

// newSearch prepares criteria: its sets become places in the view, and its texts
// lower case.
func (s *Store) newSearch(sel *selection, criteria *imap.SearchCriteria) (*search, error) {
	search := &search{
		store:    s,
		sel:      sel,
		criteria: criteria,
		sets:     make(map[*imap.SearchCriteria][][]span),
		saved:    sel.spans(imap.SearchRes()),
		deadline: time.Now().Add(searchTime),
	}
	return search, search.prepare(criteria, 0)
}

func (s *search) prepare(c *imap.SearchCriteria, depth int) error {
	if depth > maxCriteria || s.late() {
		return errSearchLimit
	}
	for _, set := range c.SeqNum {
		s.addSet(c, set)
	}
	for _, set := range c.UID {
		s.addSet(c, set)
	}
	for i := range c.Header {
		c.Header[i].Value = strings.ToLower(c.Header[i].Value)
	}
	for i := range c.Text {
		c.Text[i] = strings.ToLower(c.Text[i])
	}
	for i := range c.Body {
		c.Body[i] = strings.ToLower(c.Body[i])
	}
	for i := range c.Not {
		if err := s.prepare(&c.Not[i], depth+1); err != nil {
			return err
		}
	}
	for i := range c.Or {
		for j := range c.Or[i] {
			if err := s.prepare(&c.Or[i][j], depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// addSet adds a set to those that messages have to be in. The saved result, which
// may be long, is there once however often it is named.
func (s *search) addSet(c *imap.SearchCriteria, set imap.NumSet) {
	spans := s.saved
	if !imap.IsSearchRes(set) {
		spans = s.sel.spans(set)
	}
	s.sets[c] = append(s.sets[c], spans)
}

func (s *search) late() bool { return time.Now().After(s.deadline) }

// run returns the UIDs of the messages that match, ascending.
func (s *search) run(v snapshot) ([]uint32, error) {
	var found []uint32
	err := v.scan(numberKey(kindMessage, s.sel.id), func(item *badger.Item) error {
		uid := keyUID(item.Key())
		seq := s.sel.view.seq(uid)
		if seq == 0 {
			return nil // the client has not heard of it
		}
		if s.late() {
			return errSearchLimit
		}
		ok, err := s.try(v, item, int(seq)-1)
		if ok {
			found = append(found, uid)
		}
		return err
	})
	return found, err
}

// try says whether the message at a place in the view matches. One that is
// being deleted does not.
func (s *search) try(v snapshot, item *badger.Item, place int) (bool, error) {
	m := &candidate{search: s, snapshot: v, place: place, recent: s.sel.isRecent(keyUID(item.Key()))}
	if err := item.Value(m.decode); err != nil {
		return false, err
	}
	defer m.close()
	ok, err := m.match(s.criteria)
	if err == errGone {
		return false, nil
	}
	return ok && err == nil, err
}

// candidate is a message that may match.
type candidate struct {
	messageRecord
	search   *search
	snapshot snapshot
	place    int // in the view
	recent   bool
	content  *content // nil: not needed so far
}

// open makes the content available.
func (m *candidate) open() (err error) {
	if m.content == nil {
		m.content, err = m.search.store.openContent(m.snapshot, m.blob, true)
	}
	return err
}

func (m *candidate) close() {
	if m.content != nil {
		m.content.Close()
	}
}

// match evaluates the cheap criteria first and the content last.
func (m *candidate) match(c *imap.SearchCriteria) (bool, error) {
	if !m.matchRecord(c) {
		return false, nil
	}
	if ok, err := m.matchSent(c); !ok || err != nil {
		return false, err
	}
	for i := range c.Not {
		if ok, err := m.match(&c.Not[i]); ok || err != nil {
			return false, err
		}
	}
	for i := range c.Or {
		ok, err := m.match(&c.Or[i][0])
		if !ok && err == nil {
			ok, err = m.match(&c.Or[i][1])
		}
		if !ok || err != nil {
			return false, err
		}
	}
	for _, field := range c.Header {
		if ok, err := m.matchHeader(field); !ok || err != nil {
			return false, err
		}
	}
	for _, text := range c.Body {
		if ok, err := m.contains(text, false); !ok || err != nil {
			return false, err
		}
	}
	for _, text := range c.Text {
		if ok, err := m.contains(text, true); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// matchRecord evaluates what needs nothing but the message's record.
func (m *candidate) matchRecord(c *imap.SearchCriteria) bool {
	for _, spans := range m.search.sets[c] {
		if !inSpans(spans, m.place) {
			return false
		}
	}
	for _, flag := range c.Flag {
		if !m.hasFlag(flag) {
			return false
		}
	}
	for _, flag := range c.NotFlag {
		if m.hasFlag(flag) {
			return false
		}
	}
	return inDays(m.date, c.Since, c.Before) &&
		(c.Larger == 0 || m.size > c.Larger) && (c.Smaller == 0 || m.size < c.Smaller)
}

func (m *candidate) hasFlag(flag imap.Flag) bool {
	if strings.EqualFold(string(flag), string(flagRecent)) {
		return m.recent
	}
	return m.has(flag)
}

func (m *candidate) matchSent(c *imap.SearchCriteria) (bool, error) {
	if c.SentSince.IsZero() && c.SentBefore.IsZero() {
		return true, nil
	}
	if err := m.open(); err != nil {
		return false, err
	}
	e := m.content.root.Envelope
	if e == nil || e.Date.IsZero() {
		return false, nil
	}
	return inDays(e.Date, c.SentSince, c.SentBefore), nil
}

// inDays compares dates without regard to time and zone (RFC 9051 section
// 6.4.4).
func inDays(t, since, before time.Time) bool {
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	return (since.IsZero() || !day.Before(since)) && (before.IsZero() || day.Before(before))
}
