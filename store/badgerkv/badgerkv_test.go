package badgerkv_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"posthorn/store"
	"posthorn/store/badgerkv"
	"posthorn/store/storetest"
)

func open(t testing.TB, dir string) *badgerkv.DB {
	t.Helper()
	db, err := badgerkv.Open(dir, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func closeDB(t testing.TB, db *badgerkv.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func put(t testing.TB, db *badgerkv.DB, key, value string) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(key, []byte(value)) }); err != nil {
		t.Fatal(err)
	}
}

func TestConformanceInMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.KV {
		db, err := badgerkv.OpenMemory()
		if err != nil {
			t.Fatal(err)
		}
		return db
	})
}

func TestConformanceOnDisk(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.KV { return open(t, t.TempDir()) })
}

func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "store")
	for round := range 3 {
		db := open(t, dir)
		v, err := db.Get(t.Context(), "a/b")
		if round == 0 && !errors.Is(err, store.ErrNotFound) || round > 0 && (err != nil || string(v) != "value") {
			t.Errorf("round %d: Get = %q, %v", round, v, err)
		}
		put(t, db, "a/b", "value")
		closeDB(t, db)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestDirectoryIsMadePrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	closeDB(t, open(t, dir))
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	if _, err := badgerkv.Open(dir, zerolog.Nop()); !errors.Is(err, badgerkv.ErrInUse) {
		t.Errorf("a second Open: %v", err)
	}
	put(t, db, "a", "1") // which does not harm the first
	closeDB(t, db)
	closeDB(t, open(t, dir))
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if _, err := badgerkv.Open(path, zerolog.Nop()); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	var pathError *fs.PathError
	if _, err := badgerkv.Open(filepath.Join(file, "below"), zerolog.Nop()); !errors.As(err, &pathError) {
		t.Errorf("a file in the way: %v", err)
	}
}

func TestRunAndCloseLeaveNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	db := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- db.Run(ctx) }()
	put(t, db, "a", "1")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	closeDB(t, db)
	goleak.VerifyNone(t, before)
}

func TestCollectors(t *testing.T) {
	db, err := badgerkv.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, db)
	put(t, db, "a", "1")
	reg := prometheus.NewPedanticRegistry()
	for _, c := range db.Collectors() {
		reg.MustRegister(c)
	}
	if n, err := testutil.GatherAndCount(reg, "posthorn_store_operation_seconds"); err != nil || n < 3 {
		t.Errorf("%d series, %v", n, err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}
