package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/rs/zerolog"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/store"
	"posthorn/store/badgerkv"
	"posthorn/store/storetest"
)

// recent returns an account's history without what tests cannot know, and checks
// the rest of it.
func (d *door) recent(a *accounts.Account) (all []accounts.Attempt) {
	d.t.Helper()
	all, err := d.Recent(d.t.Context(), a.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	for i, at := range all {
		if at.Time.Before(at.Since) || at.Count < 1 || i > 0 && at.Time.After(all[i-1].Time) {
			d.t.Errorf("attempt %d: %+v", i, at)
		}
	}
	return all
}

// run runs the store's loop; stop ends it and waits for that.
func (d *door) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Error(err)
		}
	})
}

func TestRecent(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	alice, bob := d.add("alice@example.org", password), d.add("bob@example.org", password)
	key := d.key(alice)
	expired := d.key(alice, func(k *authkeys.Key) { k.Expires = time.Now().Add(-time.Second) })
	reserved := d.key(alice, func(k *authkeys.Key) { k.NoPreauth = true })

	try := func(k authkeys.Fingerprint, do func(*accounts.Auth) error) { _ = do(d.NewAuth(peer(home, k))) }
	login := func(user, password string) func(*accounts.Auth) error {
		return func(a *accounts.Auth) error { _, err := a.Password(ctx, user, password); return err }
	}
	preauth := func(a *accounts.Auth) error { _, err := a.Key(ctx); return err }
	external := func(identity string) func(*accounts.Auth) error {
		return func(a *accounts.Auth) error {
			_, err := exchange(ctx, a, sasl.NewExternalClient(identity), false)
			return err
		}
	}
	try(noKey, login("alice@example.org", password))
	try(noKey, login("alice@example.org", "guess"))
	try(noKey, login("alice@example.org", "guess"))
	try(noKey, login("nobody@example.org", "guess"))
	try(newFingerprint(), preauth)
	try(key, preauth)
	try(expired, preauth)
	try(reserved, preauth) // it is not greeted by name
	try(reserved, external(""))
	try(key, external("bob@example.org"))
	try(key, login("bob@example.org", password))

	want := []accounts.Attempt{
		{Mechanism: "EXTERNAL", Key: key, Reason: accounts.BadIdentity, Count: 1},
		{Mechanism: "EXTERNAL", Key: reserved, Count: 1},
		{Mechanism: "PREAUTH", Key: expired, Reason: accounts.ExpiredKey, Count: 1},
		{Mechanism: "PREAUTH", Key: key, Count: 1},
		{Mechanism: "LOGIN", Reason: accounts.WrongPassword, Count: 2},
		{Mechanism: "LOGIN", Count: 1},
	}
	got := d.recent(alice)
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i, w := range want {
		w.Time, w.Since, w.Protocol, w.Remote = got[i].Time, got[i].Since, "imap", home
		if got[i] != w {
			t.Errorf("got %+v, want %+v", got[i], w)
		}
	}
	// Bob does not learn whose key it was.
	if got := d.recent(bob); len(got) != 1 || got[0].Reason != accounts.OtherAccount || !got[0].Key.IsZero() {
		t.Errorf("bob's: %+v", got)
	}
	if _, err := d.Recent(ctx, "nobody"); !errors.Is(err, accounts.ErrNoAccount) {
		t.Error(err)
	}
}

// A submission asks for its login again and again; that is one login.
func TestRecentOnce(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	alice := d.add("alice@example.org", password)
	l, err := d.NewAuth(peer(home, d.key(alice, func(k *authkeys.Key) { k.NoPreauth = true }))).Key(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.recent(alice); len(got) != 0 {
		t.Errorf("before it is used: %+v", got)
	}
	for range 3 {
		if err := d.Check(ctx, l); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.recent(alice); len(got) != 1 || got[0].Count != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestRecentPrivacy(t *testing.T) {
	d := newDoor(t, accounts.Options{Privacy: true})
	alice := d.add("alice@example.org", password)
	d.NewAuth(peer(home, d.key(alice))).Key(t.Context())
	if got := d.recent(alice); len(got) != 1 || got[0].Remote.IsValid() {
		t.Errorf("got %+v", got)
	}
}

// What was noted survives a restart, adds up with what is noted afterwards, and
// goes with its account.
func TestRecentSurvives(t *testing.T) {
	kv := storetest.Memory(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	o := accounts.Options{Now: func() time.Time { return now }}
	d := openDoor(t, kv, o)
	alice := d.add("alice@example.org", password)
	key := d.key(alice)
	enter := func() {
		now = now.Add(time.Minute)
		if _, err := d.NewAuth(peer(netip.MustParseAddr("2001:db8::1%eth0"), key)).Key(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		stop := d.run()
		enter()
		enter()
		stop()
		d = openDoor(t, kv, o)
	}
	enter()
	got := d.recent(alice)
	if len(got) != 1 || got[0].Count != 7 || got[0].Time.Sub(got[0].Since) != 6*time.Minute || got[0].Remote.String() != "2001:db8::1" {
		t.Fatalf("got %+v", got)
	}
	now = now.Add(time.Hour)
	enter()
	if got := d.recent(alice); len(got) != 2 || got[0].Count != 1 {
		t.Errorf("an hour later: %+v", got)
	}
	if _, err := d.Remove(t.Context(), alice.ID); err != nil {
		t.Fatal(err)
	}
	stop := d.run()
	d.Record(alice.ID, accounts.Attempt{Protocol: "imap"})
	stop()
	for item := range kv.Scan(t.Context(), "logins/") {
		t.Errorf("%s is left", item.Key)
	}
}

// However many there are, some are kept, and guesses do not hide a login.
func TestRecentIsBounded(t *testing.T) {
	now := time.Now()
	d := newDoor(t, accounts.Options{Now: func() time.Time { return now }})
	alice := d.add("alice@example.org", password)
	for i := range 500 {
		now = now.Add(time.Second)
		d.Record(alice.ID, accounts.Attempt{Protocol: "imap", Mechanism: fmt.Sprint(i)})
		if i == 250 {
			d.run()()
		}
	}
	for i := range 5000 {
		d.Record(alice.ID, accounts.Attempt{Protocol: "imap", Reason: accounts.WrongPassword, Remote: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})})
		if i == 2000 {
			d.run()()
		}
	}
	logins, failures := 0, 0
	for _, a := range d.recent(alice) {
		if a.Reason == "" {
			logins++
		} else {
			failures++
		}
	}
	if logins != 30 || failures != 20 {
		t.Errorf("%d logins, %d failures", logins, failures)
	}
	// A clock that is set back breaks nothing.
	now = now.Add(-48 * time.Hour)
	d.Record(alice.ID, accounts.Attempt{Protocol: "https", Mechanism: "PASSKEY"})
	d.run()()
	now = now.Add(-48 * time.Hour)
	d.Record(alice.ID, accounts.Attempt{Protocol: "https", Mechanism: "PASSKEY"})
	if all, err := d.Recent(t.Context(), alice.ID); err != nil || all[0].Mechanism != "PASSKEY" || all[0].Time.Before(all[0].Since) {
		t.Errorf("%+v, %v", all[0], err)
	}
}

// Logins are written once a minute, by nobody who waits for one.
func TestRecentIsWrittenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := &countingKV{KV: storetest.Memory(t)}
		d := openDoor(t, kv, accounts.Options{})
		alice := d.add("alice@example.org", password)
		key := d.key(alice)
		stop := d.run()
		defer stop()
		before := kv.count()
		for range 1000 {
			if _, err := d.NewAuth(peer(home, key)).Key(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(59 * time.Second)
		if n := kv.count() - before; n != 0 {
			t.Errorf("%d transactions at once", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := kv.count() - before; n != 1 {
			t.Errorf("%d transactions for 1000 logins", n)
		}
		if got := d.recent(alice); len(got) != 1 || got[0].Count != 1000 {
			t.Errorf("got %+v", got)
		}
	})
}

// Much to write is written at once; when that fails, not every login tries again.
func TestRecentOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := &countingKV{KV: storetest.Memory(t)}
		d := openDoor(t, kv, accounts.Options{})
		stop := d.run()
		defer stop()
		before := kv.count()
		kv.fail(errors.New("disk full"))
		for i := range 2500 {
			d.Record(fmt.Sprint("account", i), accounts.Attempt{Protocol: "imap"})
		}
		synctest.Wait()
		if n := kv.count() - before; n != 1 {
			t.Errorf("%d transactions", n)
		}
		for range 10 {
			d.Record("account1", accounts.Attempt{Protocol: "imap"})
			synctest.Wait()
		}
		if n := kv.count() - before; n != 1 {
			t.Errorf("%d transactions after ten more logins", n)
		}
		kv.fail(nil)
	})
}

// What is noted while the notes are being written is not lost with them.
func TestRecentMeanwhile(t *testing.T) {
	kv := &hookedTxKV{KV: storetest.Memory(t)}
	d := openDoor(t, kv, accounts.Options{})
	alice := d.add("alice@example.org", password)
	note := func(mechanism string) { d.Record(alice.ID, accounts.Attempt{Protocol: "imap", Mechanism: mechanism}) }
	note("PREAUTH")
	kv.get = func(key string) {
		if key == "logins/"+alice.ID {
			kv.get = nil
			note("PREAUTH")
			note("PLAIN")
		}
	}
	d.run()()
	if kv.get != nil {
		t.Error("nothing was written")
	}
	for range 2 {
		if got := d.recent(alice); len(got) != 2 || got[0].Mechanism != "PLAIN" || got[0].Count != 1 || got[1].Count != 2 {
			t.Errorf("got %+v", got)
		}
		d.run()()
	}
}

// What cannot be written is kept, and not told twice.
func TestRecentSurvivesFullDisk(t *testing.T) {
	kv := &countingKV{KV: storetest.Memory(t)}
	d := openDoor(t, kv, accounts.Options{})
	alice := d.add("alice@example.org", password)
	d.Record(alice.ID, accounts.Attempt{Protocol: "imap"})
	kv.fail(errors.New("disk full"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Run(ctx); err == nil {
		t.Error("no error")
	}
	d.Record(alice.ID, accounts.Attempt{Protocol: "imap"})
	kv.fail(nil)
	if err := d.Run(ctx); err != nil {
		t.Error(err)
	}
	if got := d.recent(alice); len(got) != 1 || got[0].Count != 2 {
		t.Errorf("got %+v", got)
	}
}

// A damaged record costs its account what it held, and nothing else.
func TestRecentDamaged(t *testing.T) {
	d := newDoor(t, accounts.Options{})
	alice := d.add("alice@example.org", password)
	if err := d.kv.Update(t.Context(), func(tx store.Tx) error { return tx.Put("logins/"+alice.ID, []byte{1, 0xff}) }); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Recent(t.Context(), alice.ID); err == nil {
		t.Error("damage is not noticed")
	}
	d.Record(alice.ID, accounts.Attempt{Protocol: "imap"})
	d.run()()
	if got := d.recent(alice); len(got) != 1 {
		t.Errorf("got %+v", got)
	}
}

// A history that cannot be read for now, as when the gateway stops at that moment,
// is not taken for a damaged one and written over.
func TestRecentInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := &hookedTxKV{KV: storetest.Memory(t)}
		d := openDoor(t, kv, accounts.Options{})
		alice := d.add("alice@example.org", password)
		d.Record(alice.ID, accounts.Attempt{Protocol: "imap", Mechanism: "PLAIN"})
		d.run()()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		kv.get = func(key string) {
			if key == "logins/"+alice.ID {
				cancel()
			}
		}
		d.Record(alice.ID, accounts.Attempt{Protocol: "imap", Mechanism: "PREAUTH"})
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
		if got := d.recent(alice); len(got) != 2 || got[0].Mechanism != "PREAUTH" || got[0].Count != 1 || got[1].Mechanism != "PLAIN" {
			t.Errorf("got %+v", got)
		}
	})
}

// hookedTxKV tells of what its transactions are about to get.
type hookedTxKV struct {
	store.KV
	get func(key string) // nil: nobody is told
}

func (k *hookedTxKV) Update(ctx context.Context, fn func(store.Tx) error) error {
	return k.KV.Update(ctx, func(tx store.Tx) error { return fn(&hookedTx{tx, k}) })
}

type hookedTx struct {
	store.Tx
	kv *hookedTxKV
}

func (t *hookedTx) Get(ctx context.Context, key string) ([]byte, error) {
	if t.kv.get != nil {
		t.kv.get(key)
	}
	return t.Tx.Get(ctx, key)
}

// countingKV counts transactions, or fails them.
type countingKV struct {
	store.KV
	mu      sync.Mutex
	n       int
	failure error
}

func (c *countingKV) Update(ctx context.Context, fn func(store.Tx) error) error {
	c.mu.Lock()
	c.n++
	err := c.failure
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.KV.Update(ctx, fn)
}

func (c *countingKV) count() int { c.mu.Lock(); defer c.mu.Unlock(); return c.n }

func (c *countingKV) fail(err error) { c.mu.Lock(); defer c.mu.Unlock(); c.failure = err }

func BenchmarkRecord(b *testing.B) {
	d := newDoor(b, accounts.Options{})
	alice := d.add("alice@example.org", password)
	for b.Loop() {
		d.Record(alice.ID, accounts.Attempt{Protocol: "imap", Mechanism: "PREAUTH", Remote: home})
	}
}

// BenchmarkWriteHistory is what a login costs in the background, for an account
// whose history is full, and that nobody has logged in to for a minute.
func BenchmarkWriteHistory(b *testing.B) {
	kv, err := badgerkv.Open(b.TempDir(), zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	defer kv.Close()
	d := openDoor(b, kv, accounts.Options{})
	var ids []string
	for i := range 400 {
		a, err := d.Add(b.Context(), fmt.Sprintf("user%d@example.org", i), "")
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, a.ID)
	}
	n := 0
	round := func() {
		for _, id := range ids {
			d.Record(id, accounts.Attempt{Protocol: "imap", Mechanism: fmt.Sprint("PREAUTH", n), Key: newFingerprint(), Remote: home})
			n++
		}
		d.run()()
	}
	for range 40 {
		round()
	}
	for b.Loop() {
		round()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(ids)), "µs/login")
}
