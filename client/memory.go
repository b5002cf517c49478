package client

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Memory keeps which route worked in which network, so that the next time begins
// with it. It may be shared by Dialers, and its file by processes: what is lost
// when two write at once is a moment's head start. The file does not tell which
// hosts or networks it is about.
type Memory struct {
	path    string
	network func() string

	mu     sync.Mutex
	loaded bool // guarded by mu, as the rest
	known  map[string]recollection
}

// recollection is what worked, under a hash of network and gateway.
type recollection struct {
	Route Kind      `json:"route"`
	When  time.Time `json:"when"`
}

// What a Memory keeps at most.
const (
	memoryEntries = 64
	memoryAge     = 30 * 24 * time.Hour
)

// NewMemory returns a Memory that is kept in a file; without a path, for as long
// as the process lives. What cannot be read or written is as good as forgotten.
func NewMemory(path string) *Memory { return &Memory{path: path, network: Network} }

// DefaultMemory is where to keep a Memory: in the user's cache directory.
func DefaultMemory() (path string, err error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "posthorn", "routes.json"), nil
}

// WithNetwork returns a Memory on the same file that takes network's word for
// which network this is.
func (m *Memory) WithNetwork(network func() string) *Memory {
	return &Memory{path: m.path, network: network}
}

func (m *Memory) key(gateway string) string {
	h := sha256.Sum256([]byte(m.network() + "\n" + gateway))
	return base64.RawURLEncoding.EncodeToString(h[:12])
}

// recall returns the route that worked; empty: none is known.
func (m *Memory) recall(gateway string) Kind {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	r := m.known[m.key(gateway)]
	if time.Since(r.When) > memoryAge {
		return ""
	}
	return r.Route
}

// note keeps that a route worked. The file is written when that is news, or a day
// has passed.
func (m *Memory) note(gateway string, k Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	key := m.key(gateway)
	if old := m.known[key]; old.Route == k && time.Since(old.When) < 24*time.Hour {
		return
	}
	m.known[key] = recollection{k, time.Now().Truncate(time.Minute)}
	m.trim()
	_ = m.save()
}

// load reads the file once. The caller holds mu.
func (m *Memory) load() {
	if m.loaded {
		return
	}
	m.loaded, m.known = true, make(map[string]recollection)
	if m.path == "" {
		return
	}
	data, err := os.ReadFile(m.path)
	if err != nil || len(data) > 1<<20 {
		return
	}
	var known map[string]recollection
	if json.Unmarshal(data, &known) != nil {
		return
	}
	for key, r := range known {
		if slices.Contains(AllRoutes(), r.Route) && r.When.Before(time.Now().Add(time.Minute)) {
			m.known[key] = r
		}
	}
}

// trim forgets the oldest. The caller holds mu.
func (m *Memory) trim() {
	for len(m.known) > memoryEntries {
		oldest := ""
		for key, r := range m.known {
			if oldest == "" || r.When.Before(m.known[oldest].When) {
				oldest = key
			}
		}
		delete(m.known, oldest)
	}
}

// save replaces the file. The caller holds mu.
func (m *Memory) save() error {
	if m.path == "" {
		return nil
	}
	data, err := json.Marshal(m.known)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(m.path), "."+filepath.Base(m.path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(data, '\n'))
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), m.path)
}
