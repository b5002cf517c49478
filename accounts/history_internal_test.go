package accounts

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"posthorn/authkeys"
	"posthorn/store/storetest"
)

// FuzzHistory: no record does harm, and one that can be read is written the same.
func FuzzHistory(f *testing.F) {
	f.Add(encodeHistory([]Attempt{{Time: time.Unix(1, 0), Since: time.Unix(0, 0), Count: 2, Protocol: "imap", Key: [32]byte{1}}}))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, record []byte) {
		all, err := decodeHistory(record)
		if err != nil {
			return
		}
		again := encodeHistory(all)
		if _, err := decodeHistory(again); err != nil {
			t.Fatal(err)
		}
		if once := encodeHistory(all); !bytes.Equal(again, once) {
			t.Errorf("%x, then %x", again, once)
		}
	})
}

// A transaction holds what every driver takes at once.
func TestHistorySize(t *testing.T) {
	if keepLogins+keepFailures > 50 {
		t.Error("more than 50 of one account")
	}
	worst := make([]Attempt, keepLogins+keepFailures)
	for i := range worst {
		worst[i] = Attempt{
			Time: time.Now(), Since: time.Now().Add(-time.Hour), Count: 1 << 30, Protocol: "https", Mechanism: mechScramPlus,
			Reason: BadIdentity, Key: [32]byte{1}, Remote: netip.IPv6LinkLocalAllNodes(),
		}
	}
	if n := len(encodeHistory(worst)) * historiesPerTx; n > 256<<10 {
		t.Errorf("up to %d bytes", n)
	}
}

// However many accounts are tried, what waits to be written is bounded.
func TestPendingIsBounded(t *testing.T) {
	c := newCrowd(t, Throttle{})
	for i := range maxPending + 10 {
		c.Record(fmt.Sprint(i), Attempt{Protocol: "imap"})
	}
	c.Record("0", Attempt{Protocol: "imap"})
	if h := c.history; len(h.pending) != maxPending || h.pending["0"][0].Count != 2 {
		t.Errorf("%d accounts, the first %+v", len(h.pending), h.pending["0"])
	}
}

// Of too many histories those go that nobody has added to for longest.
func TestTrimHistories(t *testing.T) {
	kv := storetest.Memory(t)
	now := time.Now()
	s, err := New(t.Context(), kv, authkeys.New(kv), Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	s.history.keep = 40
	var ids []string
	for i := range 60 {
		a, err := s.Add(t.Context(), fmt.Sprintf("user%d@example.org", i), "")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, a.ID)
		now = now.Add(time.Second)
		s.Record(a.ID, Attempt{Protocol: "imap"})
		if err := s.writeHistory(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	left := 0
	for i, id := range ids {
		all, err := s.Recent(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		left += len(all)
		if i >= 20 && len(all) != 1 {
			t.Errorf("the history of account %d is gone", i)
		}
	}
	if left < 40 || left > 42 {
		t.Errorf("%d are left", left)
	}
}
