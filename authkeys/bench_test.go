package authkeys_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"posthorn/authkeys"
	"posthorn/store"
	"posthorn/store/badgerkv"
)

const million = 1_000_000

// numbered returns the i-th of the registered keys, three to an account.
func numbered(i int) authkeys.Key {
	f := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	account := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(million+i/3)))
	return authkeys.Key{
		Fingerprint: f, Account: hex.EncodeToString(account[:8]), Name: "Alice's phone", Type: "ECDSA P-256",
		Created: time.Unix(1e9, int64(i)), LastUsed: time.Unix(2e9, 5), LastUse: "imap PREAUTH",
	}
}

func fill(ctx context.Context, db *badgerkv.DB) error {
	const batch = 2000
	for from := 0; from < million; from += batch {
		err := db.Update(ctx, func(tx store.Tx) error {
			for i := from; i < from+batch; i++ {
				if err := authkeys.AddTx(ctx, tx, numbered(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func open(b *testing.B, dir string) *badgerkv.DB {
	b.Helper()
	db, err := badgerkv.Open(dir, zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	return db
}

func closeDB(b *testing.B, db *badgerkv.DB) {
	b.Helper()
	if err := db.Close(); err != nil {
		b.Error(err)
	}
}

// BenchmarkMillionKeys measures start and look-up with a million registered
// keys. Filling the store takes a while before the first.
func BenchmarkMillionKeys(b *testing.B) {
	dir := b.TempDir()
	db := open(b, dir)
	if err := fill(b.Context(), db); err != nil {
		b.Fatal(err)
	}
	closeDB(b, db)
	b.Run("Open", func(b *testing.B) {
		for b.Loop() {
			db := open(b, dir)
			b.StopTimer()
			closeDB(b, db)
			b.StartTimer()
		}
	})
	b.Run("Lookup", func(b *testing.B) { benchmarkLookup(b, dir) })
}

func benchmarkLookup(b *testing.B, dir string) {
	db := open(b, dir)
	defer closeDB(b, db)
	keys := authkeys.New(db)
	ctx := b.Context()
	wanted := make([]authkeys.Fingerprint, 100_000)
	for i := range wanted {
		wanted[i] = numbered(rand.IntN(million)).Fingerprint
	}
	took := make([]time.Duration, len(wanted))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		start := time.Now()
		if _, err := keys.Lookup(ctx, wanted[n%len(wanted)]); err != nil {
			b.Fatal(err)
		}
		took[n%len(wanted)] = time.Since(start)
		n++
	}
	took = took[:min(n, len(took))]
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}
