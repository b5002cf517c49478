package mailbox

import (
	"os"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// SetFreeSpace replaces the measurement of free disk space.
func (s *Store) SetFreeSpace(f func() (int64, error)) { s.committer.freeSpace = f }

// CountKeys counts the keys of a kind in the database.
func (s *Store) CountKeys(kind byte) (n int, err error) {
	err = s.view(func(v snapshot) error {
		return v.scan([]byte{kind}, func(*badger.Item) error { n++; return nil })
	})
	return n, err
}

// Files counts the files of messages.
func (s *Store) Files(t testing.TB) int {
	t.Helper()
	n := 0
	for _, dir := range []string{s.files.incoming, s.files.messages} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		n += len(entries)
	}
	return n
}
