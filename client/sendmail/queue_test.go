package sendmail_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/client/sendmail"
)

func open(t testing.TB, dir string) *sendmail.Queue {
	t.Helper()
	q, err := sendmail.OpenQueue(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// put queues a message with a text for some recipients.
func put(t testing.TB, q *sendmail.Queue, body string, to ...string) string {
	t.Helper()
	id, err := q.Add(message(t, body, to...), to, "the test wants it")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func list(t testing.TB, q *sendmail.Queue) []*sendmail.Entry {
	t.Helper()
	all, err := q.List()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// flush tries everything, and returns the outcomes.
func flush(t testing.TB, q *sendmail.Queue, s *sendmail.Sender) (all []*sendmail.Outcome) {
	t.Helper()
	if err := q.Flush(t.Context(), s, func(_ *sendmail.Entry, o *sendmail.Outcome) { all = append(all, o) }); err != nil {
		t.Fatal(err)
	}
	return all
}

func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.Name() != "lock" {
			names = append(names, f.Name())
		}
	}
	return names
}

func TestQueue(t *testing.T) {
	s := serve(t)
	dir := filepath.Join(t.TempDir(), "a", "b")
	q := open(t, dir)
	m := message(t, "first ü", "a@x.org", "b@x.org", "c@x.org")
	m.Reports.Notify = []string{"NEVER"}
	if _, err := q.Add(m, []string{"a@x.org", "b@x.org"}, "why"); err != nil {
		t.Fatal(err)
	}
	put(t, q, "second", "b@x.org")
	for _, f := range append(files(t, dir), ".") {
		info, err := os.Stat(filepath.Join(dir, f))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
	s.refuse["a@x.org"] = answer(550, 5, 1, 1)
	s.refuse["b@x.org"] = answer(450, 4, 2, 0)
	flush(t, open(t, dir), s.sender())
	all := list(t, q)
	if len(all) != 2 || !slices.Equal(all[0].Recipients, []string{"b@x.org"}) || !slices.Equal(failed(all[0].Failed), []string{"a@x.org"}) ||
		all[0].Attempts != 1 || all[0].Failed[0].Code != sendmail.NoUser || !strings.Contains(all[0].Reason, "450 4.2.0") {
		t.Fatalf("%+v", all)
	}
	s.set(func() { delete(s.refuse, "b@x.org") })
	flush(t, q, s.sender())
	got := s.got()
	if len(got) != 2 || fmt.Sprint(got[0].to, got[0].rcpt.Notify, got[0].opts.Body) != "[b@x.org] [NEVER]8BITMIME" || !strings.Contains(got[0].text, "first ü") {
		t.Fatalf("%+v", got)
	}
	all = list(t, q)
	if len(all) != 1 || len(all[0].Recipients) != 0 || len(flush(t, q, s.sender())) != 0 {
		t.Fatalf("%+v", all)
	}
	s.set(func() { clear(s.refuse) })
	if err := q.Retry(t.Context(), all[0].ID); err != nil {
		t.Fatal(err)
	}
	flush(t, q, s.sender())
	if s.copies("a@x.org", "first") != 1 || s.copies("b@x.org", "") != 2 || len(files(t, dir)) != 0 {
		t.Errorf("%v, %+v", files(t, dir), s.got())
	}
	for _, id := range []string{all[0].ID, "../x", ""} {
		if err := q.Remove(t.Context(), id); !errors.Is(err, sendmail.ErrNoEntry) || sendmail.Code(err) != sendmail.Usage {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// Without a gateway one message is tried, not all of them.
func TestFlushUnreachable(t *testing.T) {
	s := serve(t)
	q := open(t, t.TempDir())
	for i := range 3 {
		put(t, q, fmt.Sprint(i), "a@x.org")
	}
	if o := flush(t, q, &sendmail.Sender{Dialer: s.dialer(unreachable)}); len(o) != 1 || !o[0].Unreachable {
		t.Errorf("%+v", o)
	}
	if o := flush(t, q, s.sender()); len(o) != 3 || len(list(t, q)) != 0 {
		t.Errorf("%+v", o)
	}
}

// What cannot be read is reported and left alone, and the rest goes.
func TestBrokenEntries(t *testing.T) {
	s := serve(t)
	dir := t.TempDir()
	q := open(t, dir)
	garbled, short, gone := put(t, q, "garbled", "a@x.org"), put(t, q, "short", "a@x.org"), put(t, q, "gone", "a@x.org")
	put(t, q, "good", "a@x.org")
	for name, text := range map[string]string{garbled + ".json": "{", short + ".eml": "Subject: sh", "note": "x", "..json": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, gone+".eml")); err != nil {
		t.Fatal(err)
	}
	err := q.Flush(t.Context(), s.sender(), func(*sendmail.Entry, *sendmail.Outcome) {})
	if sendmail.Code(err) != sendmail.IOErr {
		t.Errorf("%v", err)
	}
	for _, id := range []string{garbled, short, gone} {
		if !strings.Contains(err.Error(), id) {
			t.Errorf("%s is not in %v", id, err)
		}
	}
	if len(s.got()) != 1 || len(list(t, q)) != 3 {
		t.Errorf("%+v", s.got())
	}
	if err := q.Remove(t.Context(), garbled); err != nil {
		t.Error(err)
	}
}

func TestUnsafeQueue(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := sendmail.OpenQueue(dir); sendmail.Code(err) != sendmail.Config {
		t.Errorf("%v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sendmail.OpenQueue(file); sendmail.Code(err) != sendmail.IOErr {
		t.Errorf("%v", err)
	}
}

// Several flushes, and new messages while they run: everything once.
func TestConcurrentFlushes(t *testing.T) {
	s := serve(t)
	dir := t.TempDir()
	q := open(t, dir)
	const before, while = 10, 10
	for i := range before {
		put(t, q, fmt.Sprintf("message %d.", i), "a@x.org")
	}
	var all sync.WaitGroup
	for range 4 {
		mine, sender := open(t, dir), s.sender()
		all.Go(func() { flush(t, mine, sender) })
	}
	all.Go(func() {
		for i := range while {
			put(t, q, fmt.Sprintf("message %d.", before+i), "a@x.org")
		}
	})
	all.Wait()
	flush(t, q, s.sender())
	for i := range before + while {
		if n := s.copies("a@x.org", fmt.Sprintf("message %d.", i)); n != 1 {
			t.Errorf("message %d came %d times", i, n)
		}
	}
	if f := files(t, dir); len(f) != 0 {
		t.Errorf("%v", f)
	}
}

// noticed is a context that tells when somebody begins to wait for it.
type noticed struct {
	context.Context
	once    sync.Once
	waiting chan struct{}
}

func (n *noticed) Done() <-chan struct{} {
	n.once.Do(func() { close(n.waiting) })
	return n.Context.Done()
}

// Those who wait for another flush do not try again what it has tried, and do not
// wait for ever.
func TestFlushWaits(t *testing.T) {
	s := serve(t)
	dir := t.TempDir()
	put(t, open(t, dir), "text", "a@x.org")
	begun, release := make(chan struct{}), make(chan struct{})
	s.end = func(*delivery) error {
		close(begun)
		<-release
		return answer(451, 4, 3, 0)
	}
	var all sync.WaitGroup
	first, second := open(t, dir), open(t, dir)
	sender, other := s.sender(), s.sender()
	all.Go(func() { flush(t, first, sender) })
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := open(t, dir).Flush(ctx, other, nil); sendmail.Code(err) != sendmail.TempFail {
		t.Errorf("%v", err)
	}
	late := &noticed{Context: t.Context(), waiting: make(chan struct{})}
	all.Go(func() {
		err := second.Flush(late, other, func(e *sendmail.Entry, _ *sendmail.Outcome) { t.Errorf("tried again: %+v", e) })
		if err != nil {
			t.Error(err)
		}
	})
	<-late.waiting
	close(release)
	all.Wait()
}

// What somebody has left behind goes, when nobody can be at it any more.
func TestSweep(t *testing.T) {
	s := serve(t)
	dir := t.TempDir()
	q := open(t, dir)
	id := put(t, q, "text", "a@x.org")
	old := time.Now().Add(-25 * time.Hour)
	for _, name := range []string{"20200101T000000.000000-aaaaaaaa.eml", "20200101T000000.000000-aaaaaaaa.new", "keep.eml"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chtimes(file, old, old), os.Chtimes(filepath.Join(dir, id+".eml"), old, old)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "20200101T000000.000000-bbbbbbbb.eml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	flush(t, q, s.sender())
	if f := files(t, dir); !slices.Equal(f, []string{"20200101T000000.000000-bbbbbbbb.eml", "keep.eml"}) || len(s.got()) != 1 {
		t.Errorf("%v", f)
	}
}
