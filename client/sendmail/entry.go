package sendmail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Entry is a message in a queue. Its Recipients are those who wait.
type Entry struct {
	Format int       `json:"format"`
	ID     string    `json:"id"`
	Queued time.Time `json:"queued"`
	Size   int64     `json:"size"`
	Envelope
	// Failed are recipients who were refused for good.
	Failed []Failure `json:"failed,omitempty"`
	// Tried is when it was last tried, Attempts how often. Reason is why somebody
	// waits.
	Tried    time.Time `json:"tried,omitzero"`
	Attempts int       `json:"attempts,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	// Broken says why the entry cannot be read; empty: it can.
	Broken string `json:"broken,omitempty"`
}

const (
	entryFormat = 1
	maxEnvelope = 64 << 20
	// roomForEach is how much longer an envelope gets when a recipient is refused.
	roomForEach = 2 << 10
)

var (
	errFormat    = errors.New("the envelope was written by another version")
	errTruncated = errors.New("the message has not the size that it had")
)

// encode returns the entry as JSON, filled up to a size with space.
func (e *Entry) encode(size int) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	b.Write(bytes.Repeat([]byte(" "), max(0, size-b.Len())))
	return b.Bytes(), nil
}

// load reads an envelope.
func (q *Queue) load(id string) (*Entry, error) {
	f, err := q.dir.Open(id + envelopeSuffix)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEnvelope))
	if err != nil {
		return nil, err
	}
	var e Entry
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("the envelope: %w", err)
	}
	if e.Format != entryFormat || e.ID != id {
		return nil, errFormat
	}
	return &e, nil
}

// message opens the entry's message; whoever has it closes the file.
func (q *Queue) message(e *Entry) (*Message, *os.File, error) {
	f, err := q.dir.Open(e.ID + messageSuffix)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != e.Size {
		err = errTruncated
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return &Message{Envelope: e.Envelope, Text: f, Size: e.Size}, f, nil
}

// orphanAge is when a file without an envelope is no longer one that somebody is
// about to write an envelope for.
const orphanAge = 24 * time.Hour

// sweep removes what was left behind by those who did not come to an end.
func (q *Queue) sweep() {
	for _, suffix := range []string{messageSuffix, newSuffix} {
		ids, err := q.ids(suffix)
		if err != nil {
			return
		}
		for _, id := range ids {
			info, err := q.dir.Stat(id + suffix)
			if err != nil || time.Since(info.ModTime()) < orphanAge {
				continue
			}
			if _, err := q.dir.Stat(id + envelopeSuffix); errors.Is(err, fs.ErrNotExist) {
				_ = q.dir.Remove(id + suffix)
			}
		}
	}
}
