package authkeys_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthorn/authkeys"
	"posthorn/store"
	"posthorn/store/storetest"
)

func newStore(t testing.TB) (*authkeys.Store, store.KV) {
	t.Helper()
	kv := storetest.Memory(t)
	return authkeys.New(kv), kv
}

func randomFingerprint() (f authkeys.Fingerprint) {
	_, _ = rand.Read(f[:]) // cannot fail
	return f
}

func newKey(account string) authkeys.Key {
	return authkeys.Key{
		Fingerprint: randomFingerprint(), Account: account, Name: "laptop", Type: "Ed25519",
		Created: time.Now().UTC().Round(0),
	}
}

func TestAddLookupRemove(t *testing.T) {
	s, kv := newStore(t)
	ctx := t.Context()
	full := newKey("one")
	full.NoPreauth, full.Scope = true, authkeys.ScopeIMAP|authkeys.ScopeSMTP
	full.Expires = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	old := newKey("one")
	old.Created = time.Date(1969, 1, 1, 0, 0, 0, 1, time.UTC)
	old.Expires = time.Unix(0, 0).UTC()
	for _, k := range []authkeys.Key{full, old} {
		if _, err := s.Lookup(ctx, k.Fingerprint); !errors.Is(err, authkeys.ErrUnknown) {
			t.Errorf("before Add: %v", err)
		}
		if err := s.Add(ctx, k); err != nil {
			t.Fatal(err)
		}
		got, err := s.Lookup(ctx, k.Fingerprint)
		if diff := cmp.Diff(k, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
		thief := k
		thief.Account = "two"
		for _, again := range []authkeys.Key{k, thief} {
			if err := s.Add(ctx, again); !errors.Is(err, authkeys.ErrTaken) {
				t.Errorf("added again for %s: %v", again.Account, err)
			}
		}
	}
	got, err := s.Remove(ctx, full.Fingerprint)
	if diff := cmp.Diff(full, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := s.Remove(ctx, full.Fingerprint); !errors.Is(err, authkeys.ErrUnknown) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := s.Lookup(ctx, full.Fingerprint); !errors.Is(err, authkeys.ErrUnknown) {
		t.Errorf("after Remove: %v", err)
	}
	if _, err := s.Remove(ctx, old.Fingerprint); err != nil {
		t.Error(err)
	}
	for item := range kv.Scan(ctx, "") {
		t.Errorf("left behind: %s", item.Key)
	}
}

func TestAddIncomplete(t *testing.T) {
	s, _ := newStore(t)
	for name, spoil := range map[string]func(*authkeys.Key){
		"no fingerprint":       func(k *authkeys.Key) { k.Fingerprint = authkeys.Fingerprint{} },
		"no account":           func(k *authkeys.Key) { k.Account = "" },
		"account with a slash": func(k *authkeys.Key) { k.Account = "a/b" },
		"no type":              func(k *authkeys.Key) { k.Type = "" },
	} {
		k := newKey("one")
		spoil(&k)
		if err := s.Add(t.Context(), k); !errors.Is(err, authkeys.ErrIncomplete) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Lookup(t.Context(), authkeys.Fingerprint{}); !errors.Is(err, authkeys.ErrUnknown) {
		t.Errorf("the zero fingerprint: %v", err)
	}
}

// TestTooMany: an account may have so many keys, and another one all the same.
func TestTooMany(t *testing.T) {
	s, kv := newStore(t)
	ctx := t.Context()
	var keys []authkeys.Key
	for range authkeys.MaxPerAccount + 1 {
		keys = append(keys, newKey("one"))
	}
	last := keys[authkeys.MaxPerAccount]
	for batch := range slices.Chunk(keys[:authkeys.MaxPerAccount], 100) {
		err := kv.Update(ctx, func(tx store.Tx) error {
			for _, k := range batch {
				if err := authkeys.AddTx(ctx, tx, k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Add(ctx, last); !errors.Is(err, authkeys.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	if err := s.Add(ctx, keys[0]); !errors.Is(err, authkeys.ErrTaken) {
		t.Errorf("one that is there: %v", err)
	}
	if err := s.Add(ctx, newKey("one-and-another")); err != nil {
		t.Errorf("another account's: %v", err)
	}
	if _, err := s.Remove(ctx, keys[7].Fingerprint); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(ctx, last); err != nil {
		t.Errorf("in place of another: %v", err)
	}
}

func TestCreatedIsSet(t *testing.T) {
	s, _ := newStore(t)
	k := newKey("one")
	k.Created = time.Time{}
	before := time.Now()
	if err := s.Add(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Lookup(t.Context(), k.Fingerprint); err != nil || got.Created.Before(before) || got.Created.After(time.Now()) {
		t.Errorf("created %v, %v", got.Created, err)
	}
}

func TestAddConcurrently(t *testing.T) {
	s, _ := newStore(t)
	f := randomFingerprint()
	var wg sync.WaitGroup
	won := make(chan string, 16)
	for i := range cap(won) {
		wg.Go(func() {
			k := newKey(fmt.Sprint(i))
			k.Fingerprint = f
			switch err := s.Add(t.Context(), k); {
			case err == nil:
				won <- k.Account
			case !errors.Is(err, authkeys.ErrTaken):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d accounts got the key", len(won))
	}
	if k, err := s.Lookup(t.Context(), f); err != nil || k.Account != <-won {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestChange(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	k := newKey("one")
	if err := s.Add(ctx, k); err != nil {
		t.Fatal(err)
	}
	got, err := s.Change(ctx, k.Fingerprint, func(c *authkeys.Key) error {
		*c = authkeys.Key{Name: "phone", NoPreauth: true, Scope: authkeys.ScopeHTTPS, Expires: time.Unix(5, 0).UTC(), Account: "thief"}
		return nil
	})
	want := k
	want.Name, want.NoPreauth, want.Scope, want.Expires = "phone", true, authkeys.ScopeHTTPS, time.Unix(5, 0).UTC()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, err = s.Lookup(ctx, k.Fingerprint); err != nil || got != want {
		t.Errorf("looked up %+v, %v", got, err)
	}
	refused := errors.New("refused")
	if _, err := s.Change(ctx, k.Fingerprint, func(c *authkeys.Key) error { c.Name = "x"; return refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	if got, _ = s.Lookup(ctx, k.Fingerprint); got != want {
		t.Errorf("a refused change left %+v", got)
	}
	if _, err := s.Change(ctx, randomFingerprint(), func(*authkeys.Key) error { return nil }); !errors.Is(err, authkeys.ErrUnknown) {
		t.Error(err)
	}
}

func names(t *testing.T, s *authkeys.Store, account string) (names []string) {
	t.Helper()
	for k, err := range s.List(t.Context(), account) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, k.Name)
	}
	return names
}

func TestListAndRemoveAccount(t *testing.T) {
	s, kv := newStore(t)
	ctx := t.Context()
	// "one" is a prefix of "one2": their keys must not mix.
	for i, account := range []string{"one", "one2", "one", "one2", "one"} {
		k := newKey(account)
		k.Name = fmt.Sprint(i)
		k.Created = time.Unix(int64(1000-i), 0)
		if err := s.Add(ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, s, "one"); !slices.Equal(got, []string{"4", "2", "0"}) {
		t.Errorf("one has %v", got)
	}
	if got := names(t, s, ""); len(got) != 5 {
		t.Errorf("all: %v", got)
	}
	if got := names(t, s, "nobody"); len(got) != 0 {
		t.Errorf("nobody has %v", got)
	}
	err := kv.Update(ctx, func(tx store.Tx) error { return authkeys.RemoveAccount(ctx, tx, "one") })
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, s, "one"); len(got) != 0 {
		t.Errorf("one still has %v", got)
	}
	if got := names(t, s, "one2"); !slices.Equal(got, []string{"3", "1"}) {
		t.Errorf("one2 has %v", got)
	}
	if got := names(t, s, ""); len(got) != 2 {
		t.Errorf("all: %v", got)
	}
}

func TestUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newStore(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		k, gone := newKey("one"), newKey("one")
		for _, k := range []authkeys.Key{k, gone} {
			if err := s.Add(ctx, k); err != nil {
				t.Fatal(err)
			}
			s.Used(k.Fingerprint, time.Unix(1, 0), "imap PREAUTH")
		}
		if _, err := s.Remove(ctx, gone.Fingerprint); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.Lookup(ctx, k.Fingerprint); !got.LastUsed.IsZero() {
			t.Errorf("written at once: %+v", got)
		}
		time.Sleep(61 * time.Second)
		if got, err := s.Lookup(ctx, k.Fingerprint); err != nil || !got.LastUsed.Equal(time.Unix(1, 0)) || got.LastUse != "imap PREAUTH" {
			t.Errorf("after a minute: %+v, %v", got, err)
		}
		if _, err := s.Lookup(ctx, gone.Fingerprint); !errors.Is(err, authkeys.ErrUnknown) {
			t.Errorf("the note brought back a removed key: %v", err)
		}
		s.Used(k.Fingerprint, time.Unix(2, 0), "smtp EXTERNAL")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got, err := s.Lookup(t.Context(), k.Fingerprint); err != nil || !got.LastUsed.Equal(time.Unix(2, 0)) || got.LastUse != "smtp EXTERNAL" {
			t.Errorf("at the end: %+v, %v", got, err)
		}
	})
}

// What cannot be written is kept for the next time, and newer notes stay the newer.
func TestUsedOnFullDisk(t *testing.T) {
	_, db := newStore(t)
	kv := &hookedKV{KV: db}
	s, ctx := authkeys.New(kv), t.Context()
	once, twice := newKey("one"), newKey("one")
	for _, k := range []authkeys.Key{once, twice} {
		if err := s.Add(ctx, k); err != nil {
			t.Fatal(err)
		}
		s.Used(k.Fingerprint, time.Unix(1, 0), "imap PREAUTH")
	}
	full := errors.New("disk full")
	kv.update = func() error {
		s.Used(twice.Fingerprint, time.Unix(2, 0), "smtp EXTERNAL")
		return full
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Run(stopped); !errors.Is(err, full) {
		t.Errorf("on a full disk: %v", err)
	}
	kv.update = nil
	if err := s.Run(stopped); err != nil {
		t.Error(err)
	}
	for k, want := range map[authkeys.Fingerprint]int64{once.Fingerprint: 1, twice.Fingerprint: 2} {
		if got, err := s.Lookup(ctx, k); err != nil || got.LastUsed.Unix() != want {
			t.Errorf("%+v, %v; want %d", got, err, want)
		}
	}
}

// hookedKV asks before it gets and before it updates.
type hookedKV struct {
	store.KV
	get    func(key string) // nil: nobody is told
	update func() error     // nil: nobody is asked
}

func (k *hookedKV) Get(ctx context.Context, key string) ([]byte, error) {
	if k.get != nil {
		k.get(key)
	}
	return k.KV.Get(ctx, key)
}

func (k *hookedKV) Update(ctx context.Context, fn func(store.Tx) error) error {
	if k.update != nil {
		if err := k.update(); err != nil {
			return err
		}
	}
	return k.KV.Update(ctx, fn)
}

// A key that is removed while a list is gathered is left out.
func TestListMeanwhile(t *testing.T) {
	remover, db := newStore(t)
	kv := &hookedKV{KV: db}
	s, ctx := authkeys.New(kv), t.Context()
	gone, stays := newKey("one"), newKey("one")
	for _, k := range []authkeys.Key{gone, stays} {
		if err := s.Add(ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	kv.get = func(string) {
		kv.get = nil
		if _, err := remover.Remove(ctx, gone.Fingerprint); err != nil {
			t.Error(err)
		}
	}
	var left []authkeys.Fingerprint
	for k, err := range s.List(ctx, "one") {
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, k.Fingerprint)
	}
	if kv.get != nil || !slices.Equal(left, []authkeys.Fingerprint{stays.Fingerprint}) {
		t.Errorf("left: %v", left)
	}
}

// A damaged record is an error, not another key and not an unknown one.
func TestDamagedRecord(t *testing.T) {
	s, kv := newStore(t)
	ctx, k := t.Context(), newKey("one")
	if err := s.Add(ctx, k); err != nil {
		t.Fatal(err)
	}
	name := authkeys.Prefix + k.Fingerprint.String()
	record, err := kv.Get(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{append(slices.Clone(record), 'x'), append([]byte{2}, record[1:]...)}
	for n := range record {
		damaged = append(damaged, record[:n])
	}
	for _, r := range damaged {
		if err := kv.Update(ctx, func(tx store.Tx) error { return tx.Put(name, r) }); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Lookup(ctx, k.Fingerprint); err == nil || errors.Is(err, authkeys.ErrUnknown) || got != (authkeys.Key{}) {
			t.Errorf("%x: %+v, %v", r, got, err)
		}
	}
}

func TestUsedByMany(t *testing.T) {
	s, kv := newStore(t)
	ctx := t.Context()
	const n = 1200 // more than one transaction's
	err := kv.Update(ctx, func(tx store.Tx) error {
		for i := range n {
			k := newKey([]string{"one", "two"}[i%2])
			if err := authkeys.AddTx(ctx, tx, k); err != nil {
				return err
			}
			s.Used(k.Fingerprint, time.Unix(7, 0), "imap PREAUTH")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Run(stopped); err != nil {
		t.Fatal(err)
	}
	used := 0
	for k, err := range s.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		if k.LastUsed.Equal(time.Unix(7, 0)) {
			used++
		}
	}
	if used != n {
		t.Errorf("%d of %d notes were written", used, n)
	}
}

func TestUsable(t *testing.T) {
	at := time.Unix(1000, 0)
	for _, test := range []struct {
		key   authkeys.Key
		scope authkeys.Scope
		want  error
	}{
		{authkeys.Key{}, authkeys.ScopeIMAP, nil},
		{authkeys.Key{Scope: authkeys.ScopeSMTP}, authkeys.ScopeIMAP, authkeys.ErrScope},
		{authkeys.Key{Scope: authkeys.ScopeSMTP | authkeys.ScopeIMAP}, authkeys.ScopeIMAP, nil},
		{authkeys.Key{Expires: at}, authkeys.ScopeIMAP, authkeys.ErrExpired},
		{authkeys.Key{Expires: at.Add(1)}, authkeys.ScopeIMAP, nil},
		{authkeys.Key{Expires: at.Add(-1), Scope: authkeys.ScopeSMTP}, authkeys.ScopeIMAP, authkeys.ErrExpired},
	} {
		if err := test.key.Usable(test.scope, at); !errors.Is(err, test.want) {
			t.Errorf("%+v for %s: %v, want %v", test.key, test.scope, err, test.want)
		}
	}
}

func TestScopeText(t *testing.T) {
	for text, want := range map[string]authkeys.Scope{
		"all": 0, "imap": authkeys.ScopeIMAP, "imap,smtp": authkeys.ScopeIMAP | authkeys.ScopeSMTP,
		"smtp,https": authkeys.ScopeSMTP | authkeys.ScopeHTTPS,
	} {
		if got, err := authkeys.ParseScope(text); err != nil || got != want || got.String() != text {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if got, err := authkeys.ParseScope(" SMTP , imap "); err != nil || got != authkeys.ScopeIMAP|authkeys.ScopeSMTP {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"pop3", "imap,", ",", "imap smtp", "all,imap"} {
		if got, err := authkeys.ParseScope(text); !errors.Is(err, authkeys.ErrBadScope) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestKeyJSON(t *testing.T) {
	k := newKey("one")
	k.Scope = authkeys.ScopeIMAP | authkeys.ScopeHTTPS
	b, err := json.Marshal(k)
	var got authkeys.Key
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	if err != nil || got != k {
		t.Errorf("%s: %+v, %v", b, got, err)
	}
}

func TestFingerprintText(t *testing.T) {
	f := randomFingerprint()
	if got, err := authkeys.ParseFingerprint(f.String()); err != nil || got != f {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "SHA256:", f.String()[7:], f.String() + "A", f.String()[:49], "MD5:" + f.String()[7:]} {
		if _, err := authkeys.ParseFingerprint(bad); !errors.Is(err, authkeys.ErrBadFingerprint) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
