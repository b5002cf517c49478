package mailbox

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dgraph-io/badger/v4"
	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-message/charset"

	"posthorn/mailbox/structure"
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
	deadline time.Time
	now      func() time.Time
	store    *Store
}

// newSearch prepares criteria: its sets become places in the view, and its texts
// lower case.
func (s *Store) newSearch(sel *selection, criteria *imap.SearchCriteria, now func() time.Time) (*search, error) {
	search := &search{
		store:    s,
		sel:      sel,
		criteria: criteria,
		sets:     make(map[*imap.SearchCriteria][][]span),
		deadline: now().Add(searchTime),
		now:      now,
	}
	return search, search.prepare(criteria, 0)
}

func (s *search) prepare(c *imap.SearchCriteria, depth int) error {
	if depth > maxCriteria || s.late() {
		return errSearchLimit
	}
	for _, set := range c.SeqNum {
		s.sets[c] = append(s.sets[c], s.sel.spans(set))
	}
	for _, set := range c.UID {
		s.sets[c] = append(s.sets[c], s.sel.spans(set))
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

func (s *search) late() bool { return s.now().After(s.deadline) }

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

// matchHeader looks for a text in the fields of a name; an empty text asks
// for the field as such.
func (m *candidate) matchHeader(c imap.SearchCriteriaHeaderField) (bool, error) {
	if err := m.open(); err != nil {
		return false, err
	}
	f := &fieldFinder{name: c.Key, text: c.Value}
	err := m.findFields(f, m.content.root)
	return f.found, err
}

// contains looks for a text in the body, and in the headers too if asked to.
func (m *candidate) contains(text string, headers bool) (bool, error) {
	if err := m.open(); err != nil {
		return false, err
	}
	return m.partContains(m.content.root, text, headers, true)
}

func (m *candidate) partContains(p *structure.Part, text string, headers, message bool) (bool, error) {
	if m.search.late() {
		return false, errSearchLimit
	}
	if headers || !message {
		f := &fieldFinder{text: text}
		if err := m.findFields(f, p); f.found || err != nil {
			return f.found, err
		}
	}
	switch {
	case p.Message != nil: // its header is part of the body (RFC 9051 section 6.4.4)
		return m.partContains(p.Message, text, headers, false)
	case p.Multipart():
		for _, child := range p.Children {
			ok, err := m.partContains(child, text, headers, true)
			if ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	case !p.Text():
		return text == "", nil
	}
	return m.textContains(p, text)
}

// textContains looks for a text in a part that is text, decoded to UTF-8.
func (m *candidate) textContains(p *structure.Part, text string) (bool, error) {
	r, err := decodeTransfer(m.content.reader(p.Body, p.End), p.Encoding)
	if err != nil {
		return false, nil // nobody can read it
	}
	if cs := p.Charset(); cs != "" && cs != "us-ascii" && cs != "utf-8" {
		if decoded, err := charset.Reader(cs, r); err == nil {
			r = decoded
		}
	}
	return m.search.readerContains(untilBroken{r}, text)
}

// readerContains looks for a text, which is in lower case, in what r reads.
func (s *search) readerContains(r io.Reader, text string) (bool, error) {
	want := []byte(text)
	buf := make([]byte, 32<<10)
	var window []byte // lower case; the end of what was read before, and what follows
	have := 0         // of buf: the start of a rune that is not complete
	for {
		n, err := r.Read(buf[have:])
		have += n
		whole := have
		if err == nil {
			whole -= incompleteRune(buf[:have])
		}
		window = append(window, bytes.ToLower(buf[:whole])...)
		if bytes.Contains(window, want) {
			return true, nil
		}
		have = copy(buf, buf[whole:have])
		window = append(window[:0], window[max(0, len(window)-len(want)):]...)
		switch {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		case s.late():
			return false, errSearchLimit
		}
	}
}

// incompleteRune returns how many octets at the end of b begin a rune that is
// not complete.
func incompleteRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if utf8.RuneStart(b[len(b)-n]) {
			if utf8.FullRune(b[len(b)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

// findFields passes the header of p to f until it has found its text.
func (m *candidate) findFields(f *fieldFinder, p *structure.Part) error {
	err := m.content.copy(f, p.Header, p.Body)
	if err == nil {
		err = f.endField()
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// fieldFinder looks for a text in the header fields written to it.
type fieldFinder struct {
	name  string // empty: any
	text  string // in lower case
	found bool

	line  []byte // a line that is not complete
	field []byte // the field so far
}

// Write returns errEnough once the text is found.
func (f *fieldFinder) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n') + 1
		complete := end > 0
		if !complete {
			end = len(b)
		}
		if room := maxTextField - len(f.line); room > 0 {
			f.line = append(f.line, b[:min(room, end)]...)
		}
		b = b[end:]
		if complete {
			if err := f.endLine(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (f *fieldFinder) endLine() error {
	if len(f.line) > 0 && f.line[0] != ' ' && f.line[0] != '\t' {
		if err := f.endField(); err != nil {
			return err
		}
	}
	if room := maxTextField - len(f.field); room > 0 {
		f.field = append(f.field, f.line[:min(room, len(f.line))]...)
	}
	f.line = f.line[:0]
	return nil
}

func (f *fieldFinder) endField() error {
	f.field = append(f.field, f.line...)
	name, value, ok := bytes.Cut(f.field, []byte{':'})
	if f.name == "" {
		value = f.field
	}
	if (f.name == "" || ok && strings.EqualFold(string(bytes.TrimSpace(name)), f.name)) && len(f.field) > 0 {
		f.found = strings.Contains(strings.ToLower(structure.DecodeText(string(value))), f.text)
	}
	f.field = f.field[:0]
	if f.found {
		return errEnough
	}
	return nil
}
