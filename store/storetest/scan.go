package storetest

import (
	"fmt"
	"slices"
	"strings"

	"posthorn/store"
)

func (s *suite) scan() {
	s.wantScan(s.kv, "")
	// In the order of their bytes.
	keys := []string{"A", "a", "a!", "a.b", "a/", "a/\x00", "a/1", "a/10", "a/2", "a/\x7f", "a/é", "a/\U0010ffff", "a0", "b/1", "\U0010ffff"}
	shuffled := slices.Clone(keys)
	slices.SortFunc(shuffled, func(a, b string) int { return len(a) - len(b) })
	var under []string
	for _, k := range shuffled {
		s.put(k, k)
	}
	for _, k := range keys {
		if len(k) >= 2 && k[:2] == "a/" {
			under = append(under, k+"="+k)
		}
	}
	var all []string
	for _, k := range keys {
		all = append(all, k+"="+k)
	}
	s.wantScan(s.kv, "", all...)
	s.wantScan(s.kv, "a/", under...)
	s.wantScan(s.kv, "b", "b/1=b/1")
	s.wantScan(s.kv, "b/1", "b/1=b/1")
	s.wantScan(s.kv, "b/12")
	s.wantScan(s.kv, "zzz")

	for range s.kv.Scan(s.ctx, "") {
		break // an early end is fine,
	}
	outer := 0
	for range s.kv.Scan(s.ctx, "a/") { // and so is a scan inside a scan
		s.wantScan(s.kv, "b", "b/1=b/1")
		s.want(s.kv, "a", "a")
		outer++
	}
	if outer != len(under) {
		s.Errorf("the outer scan saw %d items, want %d", outer, len(under))
	}
	seq := s.kv.Scan(s.ctx, "b")
	for range 2 { // a sequence can be used again
		n := 0
		for range seq {
			n++
		}
		if n != 1 {
			s.Errorf("a scan ranged over again yields %d items", n)
		}
	}
}

// scanAfter checks parts of a list, and how long it is.
func (s *suite) scanAfter() {
	for _, k := range []string{"a", "a/1", "a/2", "a/20", "a/é", "b/1"} {
		s.put(k, k)
	}
	for _, test := range []struct{ prefix, key, want string }{
		{"a/", "", "a/1 a/2 a/20 a/é"}, {"a/", "a/", "a/1 a/2 a/20 a/é"}, {"a/", "a/1", "a/2 a/20 a/é"}, {"a/", "a/10", "a/2 a/20 a/é"},
		{"a/", "a/2", "a/20 a/é"}, {"a/", "a/é", ""}, {"a/", "b/1", ""}, {"a/", "zzz", ""}, {"a/", "A", "a/1 a/2 a/20 a/é"},
		{"", "a/20", "a/é b/1"}, {"", "b/1", ""}, {"", "\U0010ffff", ""}, {"c", "a", ""},
	} {
		var got []string
		for item, err := range s.kv.ScanAfter(s.ctx, test.prefix, test.key) {
			if err != nil {
				s.Fatal(err)
			}
			if string(item.Value) != item.Key {
				s.Errorf("%s has the value %q", item.Key, item.Value)
			}
			got = append(got, item.Key)
		}
		if strings.Join(got, " ") != test.want {
			s.Errorf("under %q behind %q: %q, want %q", test.prefix, test.key, got, test.want)
		}
	}
	for prefix, want := range map[string]int{"": 6, "a": 5, "a/": 4, "a/2": 2, "zzz": 0} {
		if n, err := s.kv.Count(s.ctx, prefix); n != want || err != nil {
			s.Errorf("%d items under %q, want %d, %v", n, prefix, want, err)
		}
	}
}

// snapshot checks that a scan sees nothing of what is committed meanwhile.
func (s *suite) snapshot() {
	const n = 300
	s.update(func(tx store.Tx) error {
		for i := range n {
			if err := tx.Put(fmt.Sprintf("k/%03d", i), []byte("old")); err != nil {
				return err
			}
		}
		return nil
	})
	i := 0
	for item, err := range s.kv.Scan(s.ctx, "k/") {
		if err != nil {
			s.Fatal(err)
		}
		if want := fmt.Sprintf("k/%03d=old", i); text(item) != want {
			s.Fatalf("got %s, want %s", text(item), want)
		}
		if i == n/3 {
			s.put("k/000", "new", "k/150", "new", "k/1505", "new", "k/299", "new")
			s.delete("k/200")
		}
		i++
	}
	if i != n {
		s.Errorf("the scan saw %d items, want %d", i, n)
	}
	if got := len(s.items(s.kv, "k/")); got != n {
		s.Errorf("a new scan saw %d items, want %d", got, n)
	}
}
