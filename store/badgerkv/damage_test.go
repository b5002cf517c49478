package badgerkv_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"posthorn/store"
	"posthorn/store/badgerkv"
)

// filled returns the directory of a store with records in a table.
func filled(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	db := open(t, dir)
	for i := range 10 {
		put(t, db, fmt.Sprintf("key/%d", i), fmt.Sprintf("value %d", i))
	}
	closeDB(t, db) // which writes the table
	return dir
}

// intact reports whether db has what filled put there.
func intact(t *testing.T, db *badgerkv.DB) bool {
	t.Helper()
	for i := range 10 {
		v, err := db.Get(t.Context(), fmt.Sprintf("key/%d", i))
		if err != nil || string(v) != fmt.Sprintf("value %d", i) {
			return false
		}
	}
	return true
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return names
}

func TestLostFiles(t *testing.T) {
	for name, patterns := range map[string][]string{
		"manifest":       {"MANIFEST"},
		"tables":         {"*.sst"},
		"all but STORE":  {"MANIFEST", "KEYREGISTRY", "DISCARD", "*.sst", "*.vlog"},
		"manifest again": {"MANIFEST"},
	} {
		dir := filled(t)
		for _, p := range patterns {
			for _, f := range files(t, dir, p) {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
		}
		left, _ := os.ReadDir(dir)
		for range 2 {
			if _, err := badgerkv.Open(dir, zerolog.Nop()); !errors.Is(err, badgerkv.ErrCorrupt) {
				t.Errorf("without %s: %v", name, err)
			}
		}
		if now, _ := os.ReadDir(dir); len(now) != len(left) {
			t.Errorf("without %s: Open changed the directory: %v, %v", name, left, now)
		}
	}
}

// TestLostLog takes the write-ahead log of a store that was not closed away.
func TestLostLog(t *testing.T) {
	db := open(t, t.TempDir())
	defer closeDB(t, db)
	put(t, db, "key", "value")
	whole, without := copyDir(t, db.Dir(), all), copyDir(t, db.Dir(), func(name string) bool {
		return filepath.Ext(name) != ".mem"
	})
	copied := open(t, whole)
	if v, err := copied.Get(t.Context(), "key"); err != nil || string(v) != "value" {
		t.Errorf("with the log: %q, %v", v, err)
	}
	closeDB(t, copied)
	if _, err := badgerkv.Open(without, zerolog.Nop()); !errors.Is(err, badgerkv.ErrCorrupt) {
		t.Errorf("without the log: %v", err)
	}
}

// TestCutLog cuts and changes the log of a store that was not closed: what was
// acknowledged must not be missing silently.
func TestCutLog(t *testing.T) {
	db := open(t, t.TempDir())
	defer closeDB(t, db)
	for i := range 10 {
		put(t, db, fmt.Sprintf("key/%d", i), fmt.Sprintf("value %d", i))
	}
	for i := range 10 {
		dir := copyDir(t, db.Dir(), all)
		log := files(t, dir, "*.mem")[0]
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(b, fmt.Appendf(nil, "value %d", i))
		if at < 0 {
			t.Fatalf("value %d is not in the log", i)
		}
		b[at] ^= 1
		if err := os.WriteFile(log, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := badgerkv.Open(dir, zerolog.Nop()); !errors.Is(err, badgerkv.ErrCorrupt) {
			t.Errorf("value %d changed in the log: %v", i, err)
		}
	}
}

// copyDir copies the files of a store that keep wants; of an open store, as they
// would be found after a crash.
func copyDir(t *testing.T, from string, keep func(name string) bool) string {
	t.Helper()
	to := t.TempDir()
	for _, path := range files(t, from, "*") {
		name := filepath.Base(path)
		if !keep(name) || name == "LOCK" || filepath.Ext(name) == ".vlog" { // no value is in the value log
			continue
		}
		b := read(t, path)
		copied := filepath.Join(to, name)
		err := os.WriteFile(copied, bytes.TrimRight(b, "\x00"), 0o600)
		if err == nil {
			err = os.Truncate(copied, int64(len(b))) // most of a log is a hole
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func all(string) bool { return true }

// TestFlippedBytes changes bytes all over a table and of the manifest: the store
// is refused, or has all that it had.
func TestFlippedBytes(t *testing.T) {
	whole := filled(t)
	for _, pattern := range []string{"*.sst", "MANIFEST", "STORE"} {
		refused, opened := 0, 0
		name := filepath.Base(files(t, whole, pattern)[0])
		size := len(read(t, filepath.Join(whole, name)))
		for at := 0; at < size; at += 1 + size/40 {
			dir := copyDir(t, whole, all)
			b := read(t, filepath.Join(dir, name))
			b[at] ^= 0x10
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := badgerkv.Open(dir, zerolog.Nop())
			if err != nil {
				if refused++; !errors.Is(err, badgerkv.ErrCorrupt) {
					t.Errorf("%s, byte %d: %v", name, at, err)
				}
				continue
			}
			if opened++; !intact(t, db) {
				t.Errorf("%s, byte %d: opened without all records", name, at)
			}
			closeDB(t, db)
		}
		if refused == 0 {
			t.Errorf("%s: no change was noticed", name)
		}
		t.Logf("%s: refused %d, opened whole %d", name, refused, opened)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTruncatedTable(t *testing.T) {
	for _, size := range []int64{0, 1, 4, 100} {
		dir := filled(t)
		if err := os.Truncate(files(t, dir, "*.sst")[0], size); err != nil {
			t.Fatal(err)
		}
		if _, err := badgerkv.Open(dir, zerolog.Nop()); !errors.Is(err, badgerkv.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
}

func TestBrokenOffRestore(t *testing.T) {
	dir := filled(t)
	db := open(t, dir)
	var backup bytes.Buffer
	if err := db.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)

	fresh := open(t, t.TempDir())
	defer closeDB(t, fresh)
	var crashed string
	err := fresh.Restore(t.Context(), &spy{r: &backup, atEnd: func() {
		crashed = copyDir(t, fresh.Dir(), all)
	}})
	if err != nil || !intact(t, fresh) {
		t.Errorf("Restore: %v", err)
	}
	if _, err := badgerkv.Open(crashed, zerolog.Nop()); !errors.Is(err, badgerkv.ErrCorrupt) {
		t.Errorf("a restore that was broken off: %v", err)
	}
}

// spy calls atEnd when its reader has come to the end.
type spy struct {
	r     *bytes.Buffer
	atEnd func()
}

func (s *spy) Read(b []byte) (int, error) {
	if s.r.Len() == 0 {
		s.atEnd()
	}
	return s.r.Read(b)
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	put(t, db, "a", "1")
	usual := db.SetReserve(math.MaxUint64)
	err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Put("a", []byte("2")) })
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Update: %v", err)
	}
	if v, err := db.Get(t.Context(), "a"); err != nil || string(v) != "1" {
		t.Errorf("Get = %q, %v", v, err)
	}
	db.SetReserve(usual)
	put(t, db, "a", "3")
	if info, err := os.Stat(filepath.Join(dir, "BALLAST")); err != nil || info.Size() < 16<<20 {
		t.Errorf("nothing is kept for closing on a full disk: %v", err)
	}
	closeDB(t, db)
	if _, err := os.Stat(filepath.Join(dir, "BALLAST")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the ballast is still there: %v", err)
	}
	closeDB(t, open(t, dir))
}
