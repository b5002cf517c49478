package badgerkv_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rs/zerolog"

	"posthorn/store"
	"posthorn/store/badgerkv"
)

func TestReopen(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	for i := range 3 {
		db, err := badgerkv.Open(dir, zerolog.New(zerolog.NewTestWriter(t)))
		if err != nil {
			t.Fatal(err)
		}
		v, err := db.Get(ctx, "a/b")
		if i == 0 && !errors.Is(err, store.ErrNotFound) || i > 0 && (err != nil || string(v) != "value") {
			t.Errorf("round %d: Get = %q, %v", i, v, err)
		}
		if err := db.Update(ctx, func(tx store.Tx) error { return tx.Put("a/b", []byte("value")) }); err != nil {
			t.Error(err)
		}
		if _, err := badgerkv.Open(dir, zerolog.Nop()); !errors.Is(err, badgerkv.ErrInUse) {
			t.Errorf("opened twice: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenMemory(t *testing.T) {
	ctx := context.Background()
	db, err := badgerkv.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(ctx, func(tx store.Tx) error { return tx.Put("a/b", []byte("value")) }); err != nil {
		t.Error(err)
	}
	if v, err := db.Get(ctx, "a/b"); err != nil || string(v) != "value" {
		t.Errorf("Get = %q, %v", v, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
