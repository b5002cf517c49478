package sendmail

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Queue is a directory in which messages wait until they can be sent. What Add has
// taken is there until it was sent or is removed, wherever the process or the
// machine ends; it may be sent twice if the end comes between the gateway's last
// word and the note of it, as SMTP cannot tell (RFC 5321 section 6.1). Any number of
// processes may use it at once.
//
// An entry is two files: ID.eml, the message, which never changes, and ID.json, the
// envelope, which is replaced as a whole. There is an entry if there is an envelope.
type Queue struct {
	dir  *os.Root
	path string
	step func() // called after each change on disk, for tests that end there
}

const (
	messageSuffix  = ".eml"
	envelopeSuffix = ".json"
	newSuffix      = ".new" // an envelope that is not valid yet
	lockName       = "lock"
)

// ErrNoEntry says that the queue has no such entry.
var ErrNoEntry = errors.New("the queue has no such message")

// OpenQueue opens a queue, and makes its directory if there is none.
func OpenQueue(path string) (*Queue, error) {
	if err := makeDir(path); err != nil {
		return nil, &Error{IOErr, err}
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, &Error{IOErr, err}
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, failure(Config, "others may write to the queue: chmod go-w %s", path)
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, &Error{IOErr, err}
	}
	return &Queue{dir: dir, path: path, step: func() {}}, nil
}

// makeDir makes a directory that outlives a crash, for its owner alone.
func makeDir(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Close gives the directory back.
func (q *Queue) Close() error { return q.dir.Close() }

// Add puts a message into the queue for some of its recipients, for a reason. When
// it returns nil, the message is safe. Otherwise it is not in the queue, and the
// error's code is TempFail.
func (q *Queue) Add(m *Message, recipients []string, reason string) (id string, err error) {
	now := time.Now()
	e := &Entry{
		ID: now.UTC().Format("20060102T150405.000000") + "-" + strings.ToLower(rand.Text()[:8]), Format: entryFormat,
		Queued: now, Size: m.Size, Envelope: m.Envelope, Reason: reason,
	}
	e.Recipients = slices.Clone(recipients)
	if err := q.add(e, m); err != nil {
		q.forget(e.ID)
		return "", failure(TempFail, "the message cannot be put into the queue: %w", err)
	}
	return e.ID, nil
}

func (q *Queue) add(e *Entry, m *Message) error {
	err := q.write(e.ID+messageSuffix, func(f *os.File) error {
		_, err := io.Copy(f, m.reader())
		return err
	})
	if err != nil {
		return err
	}
	if err := q.reserve(e); err != nil {
		return err
	}
	return q.commit(e)
}

// write makes a file and syncs it.
func (q *Queue) write(name string, fill func(*os.File) error) error {
	f, err := q.dir.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	q.step()
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		q.step()
	}
	return err
}

// reserve takes the room on disk that the next version of an entry's envelope can
// need, so that it can be written whatever has become of the disk by then.
func (q *Queue) reserve(e *Entry) error {
	text, err := e.encode(0)
	if err != nil {
		return err
	}
	return q.write(e.ID+newSuffix, func(f *os.File) error {
		_, err := f.WriteString(strings.Repeat(" ", len(text)+roomForEach*(len(e.Recipients)+1)))
		return err
	})
}

// commit replaces an entry's envelope, in the room that was reserved.
func (q *Queue) commit(e *Entry) error {
	f, err := q.dir.OpenFile(e.ID+newSuffix, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = func() error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		text, err := e.encode(int(info.Size()))
		if err != nil {
			return err
		}
		if _, err := f.Write(text); err != nil {
			return err
		}
		return f.Sync()
	}()
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	q.step()
	if err := q.dir.Rename(e.ID+newSuffix, e.ID+envelopeSuffix); err != nil {
		return err
	}
	q.step()
	return q.sync()
}

// sync makes what was renamed or removed stay so.
func (q *Queue) sync() error {
	f, err := q.dir.Open(".")
	if err != nil {
		return err
	}
	err = errors.Join(f.Sync(), f.Close())
	q.step()
	return err
}

// forget takes an entry out of the queue: its envelope first, since there is an
// entry if there is an envelope.
func (q *Queue) forget(id string) error {
	if err := q.dir.Remove(id + envelopeSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	q.step()
	err := q.sync()
	for _, suffix := range []string{newSuffix, messageSuffix} {
		_ = q.dir.Remove(id + suffix) // else sweep does it
		q.step()
	}
	return err
}

// List returns the entries, the oldest first. Those that cannot be read are there
// too, see Entry.Broken.
func (q *Queue) List() ([]*Entry, error) {
	ids, err := q.ids(envelopeSuffix)
	if err != nil {
		return nil, &Error{IOErr, err}
	}
	all := make([]*Entry, 0, len(ids))
	for _, id := range ids {
		e, err := q.load(id)
		if errors.Is(err, fs.ErrNotExist) { // it was sent just now
			continue
		}
		if err != nil {
			e = &Entry{ID: id, Broken: err.Error()}
		}
		all = append(all, e)
	}
	return all, nil
}

// ids returns the IDs of files with a suffix, in order.
func (q *Queue) ids(suffix string) (ids []string, err error) {
	f, err := q.dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, suffix); ok && validID.MatchString(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, err
}

var validID = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}\.[0-9]{6}-[a-z0-9]{8}$`)

// Remove takes an entry out of the queue, whether it waits or has failed. The error
// is ErrNoEntry, or the disk's.
func (q *Queue) Remove(ctx context.Context, id string) error {
	return q.locked(ctx, func() error {
		if err := q.known(id); err != nil {
			return err
		}
		return q.forget(id)
	})
}

// Retry makes the recipients who were refused wait again.
func (q *Queue) Retry(ctx context.Context, id string) error {
	return q.locked(ctx, func() error {
		if err := q.known(id); err != nil {
			return err
		}
		e, err := q.load(id)
		if err != nil {
			return err
		}
		for _, f := range e.Failed {
			e.Recipients = append(e.Recipients, f.Recipient)
		}
		e.Failed = nil
		if err := q.reserve(e); err != nil {
			return err
		}
		return q.commit(e)
	})
}

func (q *Queue) known(id string) error {
	if !validID.MatchString(id) {
		return &Error{Usage, fmt.Errorf("%q: %w", short(id), ErrNoEntry)}
	}
	if _, err := q.dir.Stat(id + envelopeSuffix); err != nil {
		return &Error{Usage, fmt.Errorf("%s: %w", id, ErrNoEntry)}
	}
	return nil
}

// locked runs do as the only one that sends or changes what is in the queue. The
// kernel opens the lock when its holder ends, however that is.
func (q *Queue) locked(ctx context.Context, do func() error) error {
	f, err := q.dir.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return &Error{IOErr, err}
	}
	defer f.Close()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return &Error{IOErr, err}
		}
		select {
		case <-ctx.Done():
			return &Error{TempFail, errors.New("somebody else is sending what is in the queue")}
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := do(); err != nil && Code(err) == Unavailable {
		return &Error{IOErr, err}
	} else if err != nil {
		return err
	}
	return nil
}
