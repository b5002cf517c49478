package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"

	"posthorn/store"
)

// What new verifiers are made with. The iterations are stored with each, so
// that raising them leaves older ones valid (RFC 7677 section 4 asks for 4096
// at least).
const (
	iterations = 10000
	saltSize   = 16
)

// verifier is what is kept of a password (RFC 5802 section 3): enough to check
// it, not enough to log in with it elsewhere.
type verifier struct {
	salt       string // raw octets
	iterations int
	storedKey  []byte
	serverKey  []byte
}

// newVerifier makes a verifier with a fresh salt. Its error is ErrPassword.
func newVerifier(password string) (verifier, error) {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails
	return derive(password, string(salt), iterations)
}

// derive computes a password's verifier; the password is prepared with
// SASLprep (RFC 4013), as SCRAM clients do. The error holds none of it.
func derive(password, salt string, iterations int) (verifier, error) {
	if err := checkPassword(password); err != nil {
		return verifier{}, err
	}
	c, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		return verifier{}, fmt.Errorf("%w: a character in it is not allowed (RFC 4013)", ErrPassword)
	}
	k, err := c.GetStoredCredentialsWithError(scram.KeyFactors{Salt: salt, Iters: iterations})
	if err != nil {
		return verifier{}, fmt.Errorf("derive verifier: %w", err)
	}
	return verifier{salt, iterations, k.StoredKey, k.ServerKey}, nil
}

// matches reports whether v was made from password. The work is the same
// whatever the password and the answer.
func (v verifier) matches(password string) bool {
	other, err := derive(password, v.salt, v.iterations)
	if err != nil {
		_, _ = derive("x", v.salt, v.iterations)
		return false
	}
	return v.equal(other)
}

func (v verifier) equal(other verifier) bool {
	return subtle.ConstantTimeCompare(v.storedKey, other.storedKey) == 1
}

func (v verifier) credentials() scram.StoredCredentials {
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: v.salt, Iters: v.iterations},
		StoredKey:  v.storedKey,
		ServerKey:  v.serverKey,
	}
}

const verifierScheme = "SCRAM-SHA-256"

var errVerifier = errors.New("decode verifier: damaged")

// encode returns v as RFC 5803 writes it:
// SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey.
func (v verifier) encode() []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, "%s$%d:%s$%s:%s", verifierScheme,
		v.iterations, b64([]byte(v.salt)), b64(v.storedKey), b64(v.serverKey))
}

// decodeVerifier is the inverse of encode.
func decodeVerifier(b []byte) (verifier, error) {
	parts := strings.FieldsFunc(string(b), func(r rune) bool { return r == '$' || r == ':' })
	if len(parts) != 5 || parts[0] != verifierScheme {
		return verifier{}, errVerifier
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil || n < 1 {
		return verifier{}, errVerifier
	}
	var raw [3][]byte
	for i, p := range parts[2:] {
		if raw[i], err = base64.StdEncoding.DecodeString(p); err != nil {
			return verifier{}, errVerifier
		}
	}
	if len(raw[1]) != sha256.Size || len(raw[2]) != sha256.Size {
		return verifier{}, errVerifier
	}
	return verifier{string(raw[0]), n, raw[1], raw[2]}, nil
}

// decoys makes the verifiers of users who do not exist or have no password, so
// that a peer sees them take the same salt each time and the same work, like
// everybody else's (RFC 5802 section 9).
type decoys []byte // secret

const decoyKey = "accounts/decoy-secret"

// loadDecoys returns the secret kept in kv, which it makes on the first run:
// salts that changed with a restart would tell decoys from real ones.
func loadDecoys(ctx context.Context, kv store.KV) (secret decoys, err error) {
	err = kv.Update(ctx, func(tx store.Tx) error {
		b, err := tx.Get(ctx, decoyKey)
		if !errors.Is(err, store.ErrNotFound) {
			secret = b
			return err
		}
		secret = make([]byte, sha256.Size)
		rand.Read(secret) // never fails
		return tx.Put(decoyKey, secret)
	})
	return secret, err
}

// verifier returns the one of a user name; no password is known for it.
func (d decoys) verifier(user string) verifier {
	return verifier{string(d.mac("salt", user)[:saltSize]), iterations, d.mac("stored", user), d.mac("server", user)}
}

func (d decoys) mac(use, user string) []byte {
	h := hmac.New(sha256.New, d)
	h.Write([]byte(use + "\x00" + user))
	return h.Sum(nil)
}
