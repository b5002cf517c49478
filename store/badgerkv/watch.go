package badgerkv

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"posthorn/store"
)

// hub tells watchers what was committed.
type hub struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{} // guarded by mu
	commit   uint64                // of changes so far; guarded by mu
}

// watcher collects the changes under a prefix until somebody takes them.
type watcher struct {
	prefix string
	wake   chan struct{} // holds one element while pending is not empty
	// pending has the latest change of each key; it is guarded by hub.mu.
	pending map[string]change
}

// change is a committed item with its place in the order of commits.
type change struct {
	at   uint64
	item store.Item
}

// Watch implements store.KV. What piles up while nobody takes it is bounded by
// the number of distinct keys: a change takes the place of an older one of the
// same key.
func (db *DB) Watch(ctx context.Context, prefix string) (iter.Seq2[store.Item, error], error) {
	if err := db.alive(ctx); err != nil {
		return nil, err
	}
	w := &watcher{prefix: prefix, wake: make(chan struct{}, 1), pending: make(map[string]change)}
	db.hub.add(w)
	stop := context.AfterFunc(ctx, func() { db.hub.remove(w) })
	return func(yield func(store.Item, error) bool) {
		defer db.hub.remove(w)
		defer stop()
		for {
			select {
			case <-ctx.Done():
				yield(store.Item{}, ctx.Err())
				return
			case <-db.closing:
				yield(store.Item{}, store.ErrClosed)
				return
			case <-w.wake:
			}
			for _, c := range db.hub.take(w) {
				if ctx.Err() != nil {
					break
				}
				c.item.Value = bytes.Clone(c.item.Value)
				if !yield(c.item, nil) {
					return
				}
			}
		}
	}, nil
}

func (h *hub) add(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = make(map[*watcher]struct{})
	}
	h.watchers[w] = struct{}{}
}

func (h *hub) remove(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
	w.pending = nil
}

// publish hands committed items, which nobody changes any more, to the
// watchers. Callers publish in commit order.
func (h *hub) publish(items []store.Item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, item := range items {
		h.commit++
		for w := range h.watchers {
			if strings.HasPrefix(item.Key, w.prefix) {
				w.pending[item.Key] = change{h.commit, item}
				select {
				case w.wake <- struct{}{}:
				default: // woken already
				}
			}
		}
	}
}

// take empties w and returns what was in it, in commit order. Everything is
// taken at once so that a key that changes all the time cannot be put off for
// ever.
func (h *hub) take(w *watcher) []change {
	h.mu.Lock()
	pending := w.pending
	w.pending = make(map[string]change)
	h.mu.Unlock()
	return slices.SortedFunc(maps.Values(pending), func(a, b change) int { return cmp.Compare(a.at, b.at) })
}
