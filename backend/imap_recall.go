package backend

import (
	"sync"
	"time"
)

// recall keeps what users' capabilities were, for servers that do not tell them
// with the login: to ask is a round trip, and many log in again soon. Its
// methods may be called concurrently.
type recall struct {
	mu    sync.Mutex
	lists map[loginAt]recalled
}

// loginAt is a user's login at one address of a server: what a user can do may
// differ, and what addresses offer, while one is being upgraded.
type loginAt struct{ address, user string }

type recalled struct {
	list  string
	since time.Time
}

const (
	recallTime = time.Minute
	recallMost = 1 << 12 // lists; then all are forgotten
)

// list returns a user's capabilities; empty: they are to be asked for.
func (r *recall) list(at loginAt) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.lists[at]; time.Since(k.since) < recallTime {
		return k.list
	}
	return ""
}

// keep notes what a server has answered.
func (r *recall) keep(at loginAt, list string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lists == nil || len(r.lists) >= recallMost {
		r.lists = make(map[loginAt]recalled)
	}
	r.lists[at] = recalled{list, time.Now()}
}
