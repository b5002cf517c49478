package mailbox

import (
	"os"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
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

// CloseDatabase makes all that comes after it fail.
func (s *Store) CloseDatabase() error { return s.db.Close() }

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

// Packs returns how many packs there are, and how many octets of the disk they
// take.
func (s *Store) Packs(t testing.TB) (n int, size int64) {
	t.Helper()
	numbers, err := s.packs.list()
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range numbers {
		var st unix.Stat_t
		if err := unix.Stat(s.packs.name(number), &st); err == unix.ENOENT {
			continue // it has just been deleted
		} else if err != nil {
			t.Fatal(err)
		}
		n++
		size += st.Blocks * 512
	}
	return n, size
}

// CanonicalName is how names of mailboxes are checked.
func CanonicalName(name string) (string, bool) { return canonicalName(name) }

// MatchPattern matches a name against a LIST pattern.
func MatchPattern(p, name string) bool {
	compiled, _ := newPattern("", p)
	return compiled.match(name)
}

// DecodeRecords decodes b as each kind of record, and encodes it again.
func DecodeRecords(b []byte) [][]byte {
	var all [][]byte
	for _, r := range []interface {
		decode([]byte) error
		encode() []byte
	}{new(metaRecord), new(userRecord), new(folderRecord), new(messageRecord), new(blobRecord)} {
		var again []byte
		if r.decode(b) == nil {
			again = r.encode()
		}
		all = append(all, again)
	}
	return all
}
