package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// ErrEncryptedKey says that a private key in a file is encrypted.
var ErrEncryptedKey = errors.New("the private key is encrypted: decrypt it with openssl pkey")

// load reads a certificate chain and its key.
func load(f Files) (*tls.Certificate, error) {
	keyFile := cmp.Or(f.Key, f.Cert)
	chain, err := os.ReadFile(f.Cert)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate key: %w", err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil && strings.Contains(string(key), "ENCRYPTED") {
		err = ErrEncryptedKey
	}
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.Cert, keyFile, err)
	}
	return &pair, nil
}

// watchEvery is how often files are looked at. They are read when they have
// changed and then stayed as they are for one round, so that whoever writes two
// of them has done both.
const watchEvery = 5 * time.Second

// fileState is what a changed pair of files differs in.
type fileState [2]struct {
	modified time.Time
	size     int64
	exists   bool
}

// statFiles follows symbolic links, as those that certbot turns around.
func statFiles(f Files) (s fileState) {
	for i, name := range []string{f.Cert, cmp.Or(f.Key, f.Cert)} {
		if info, err := os.Stat(name); err == nil {
			s[i].modified, s[i].size, s[i].exists = info.ModTime(), info.Size(), true
		}
	}
	return s
}

// watch reloads when the files change, until ctx ends.
func (m *Manager) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last := make([]fileState, len(m.config.Files))
	tried := make([]fileState, len(m.config.Files))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !m.settled(last, tried) {
			continue
		}
		if err := m.Reload(ctx); err != nil {
			m.config.Log.Error().Err(err).Msg("certificates that cannot be read stay as they were")
			continue
		}
		m.config.Log.Info().Msg("certificates have changed and were read again")
	}
}

// settled reports whether a pair differs from what is served, from what was
// tried in vain, and not from what it was a round ago. It updates last and tried.
func (m *Manager) settled(last, tried []fileState) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, f := range m.config.Files {
		now := statFiles(f)
		if now == last[i] && now != m.disk[i] && now != tried[i] {
			tried[i], changed = now, true
		}
		last[i] = now
	}
	return changed
}
