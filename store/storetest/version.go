package storetest

import "posthorn/store"

// version holds that whoever finds the version unchanged has missed nothing.
func (s *suite) version() {
	kv, ok := s.kv.(store.Versioned)
	if !ok {
		s.Log("the driver is no store.Versioned")
		return
	}
	seen := map[uint64]bool{0: true}
	for _, change := range []func(){
		func() {},
		func() { s.put("a", "1") },
		func() { s.put("a", "2", "b", "1") },
		func() { s.delete("a") },
		func() { s.update(func(tx store.Tx) error { return tx.Put("b", nil) }) },
	} {
		change()
		now := kv.Version()
		if seen[now] {
			s.Errorf("version %d again, or zero", now)
		}
		seen[now] = true
		for range s.kv.Scan(s.ctx, "") {
		}
		if kv.Version() != now {
			s.Error("reading changed it")
		}
	}
}
