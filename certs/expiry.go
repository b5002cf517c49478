package certs

import (
	"time"
)

// warnAt are the times before the end of a certificate at which the log says so,
// unless it is not due for renewal by then.
var warnAt = [...]time.Duration{20 * day, 10 * day, 3 * day, 1 * day}

const day = 24 * time.Hour

// warner warns once for each of the times, and every day of a certificate that
// has expired. Its fields are guarded by Manager.mu.
type warner struct {
	warned  map[string]warning // by name and key type
	expired time.Time          // when the expired ones were named last
}

type warning struct {
	notAfter time.Time
	level    int // how many of warnAt have passed
}

// warn looks for certificates that should have been replaced by now. The caller
// holds m.mu.
func (m *Manager) warn() {
	now := m.config.Now()
	w := &m.warner
	if w.warned == nil {
		w.warned = make(map[string]warning)
	}
	nameExpired := now.Sub(w.expired) >= day || now.Before(w.expired)
	named := false
	for _, s := range m.ready.all {
		state := s.state.Load()
		for _, id := range state.shown() {
			key := s.name + "/" + string(id.keyType)
			level := id.level(now)
			if level == 0 {
				delete(w.warned, key)
				continue
			}
			last := w.warned[key]
			dead := id.expired(now)
			if last.notAfter.Equal(id.notAfter) && level <= last.level && !(dead && nameExpired) {
				continue
			}
			w.warned[key] = warning{id.notAfter, level}
			e := m.config.Log.Warn()
			text := "certificate expires soon"
			if dead {
				e, text, named = m.config.Log.Error(), "certificate has expired; it is served all the same", true
			}
			if id.file != "" {
				e.Str("file", id.file)
			}
			e.Str("name", s.name).Str("source", string(state.source)).Str("key", string(id.keyType)).
				Time("not_after", id.notAfter).Msg(text)
		}
	}
	if named {
		w.expired = now
	}
}

// level is how many warnings a certificate deserves.
func (i *identity) level(now time.Time) (n int) {
	left := i.notAfter.Sub(now)
	for _, at := range warnAt {
		if left <= at && at < i.lifetime()/3 {
			n++
		}
	}
	if left < 0 {
		n = len(warnAt) + 1
	}
	return n
}
