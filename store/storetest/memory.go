package storetest

import (
	"testing"

	"posthorn/store/badgerkv"
)

// Memory opens an empty store in memory, which is closed when the test ends.
func Memory(t testing.TB) *badgerkv.DB {
	t.Helper()
	db, err := badgerkv.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
