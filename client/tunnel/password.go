package tunnel

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Password is what local programs sign in with, hashed: it is told once, when it
// is made. It has 128 random bits, so that a plain hash does.
type Password struct{ hash [sha256.Size]byte }

// NewPassword makes a password, and returns its text as well.
func NewPassword() (text string, p *Password) {
	text = strings.ToLower(rand.Text())
	return text, &Password{sha256.Sum256([]byte(text))}
}

// Verify reports whether text is the password.
func (p *Password) Verify(text string) bool {
	hash := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(hash[:], p.hash[:]) == 1
}

// ErrState says that a file with a password cannot be used.
var ErrState = errors.New("not a tunnel's state file")

// state is a state file's content.
type state struct {
	Hash []byte `json:"password_sha256"`
}

// OpenPassword reads the password that a file keeps. Where there is none, or with
// renew, it makes one, writes the file, and returns the text too. The file and the
// directory that it may have to make are for this user alone.
func OpenPassword(file string, renew bool) (p *Password, text string, err error) {
	if !renew {
		p, err = readPassword(file)
		if !errors.Is(err, fs.ErrNotExist) {
			return p, "", err
		}
	}
	text, p = NewPassword()
	data, err := json.Marshal(state{p.hash[:]})
	if err == nil {
		err = replace(file, append(data, '\n'))
	}
	if err != nil {
		return nil, "", err
	}
	return p, text, nil
}

func readPassword(file string) (*Password, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > 4096:
		return nil, fmt.Errorf("%s: %w", file, ErrState)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("%s: %w: others may write to it", file, ErrState)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var s state
	if json.Unmarshal(data, &s) != nil || len(s.Hash) != sha256.Size {
		return nil, fmt.Errorf("%s: %w", file, ErrState)
	}
	return &Password{[sha256.Size]byte(s.Hash)}, nil
}

// replace writes a file in one step.
func replace(file string, data []byte) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".tunnel-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
