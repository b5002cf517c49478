package certs

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"

	"posthorn/store"
)

var (
	// ErrSealed says that a secret in the store is encrypted, and not with the
	// key in Config.KeyFile.
	ErrSealed = errors.New("a secret in the store is encrypted with another key file")
	// ErrKeyFile says that Config.KeyFile is too short to be a key.
	ErrKeyFile = errors.New("a key file has 32 bytes at least, such as openssl rand -base64 32 makes")
)

// vault keeps secrets in the store, encrypted with the key file if there is one.
// The name of a record is authenticated with it, so that none passes for
// another.
type vault struct {
	store.KV
	aead cipher.AEAD // nil: secrets stand in the clear
}

// sealed begins every encrypted record. Those in the clear begin with a time or
// with DER, neither of which has this octet in front.
var sealed = []byte("\xffsealed\x01")

const minKeyFile = 32

func openVault(kv store.KV, keyFile string) (*vault, error) {
	v := &vault{KV: kv}
	if keyFile == "" {
		return v, nil
	}
	secret, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if secret = bytes.TrimSpace(secret); len(secret) < minKeyFile {
		return nil, fmt.Errorf("key file %s: %w", keyFile, ErrKeyFile)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "posthorn certs store", 32)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", keyFile, err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", keyFile, err)
	}
	if v.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, fmt.Errorf("key file %s: %w", keyFile, err)
	}
	return v, nil
}

// secret returns the secret under a record, or store.ErrNotFound.
func (v *vault) secret(ctx context.Context, r store.Reader, record string) ([]byte, error) {
	stored, err := r.Get(ctx, record)
	if err != nil {
		return nil, err
	}
	return v.unseal(record, stored)
}

// unseal turns what stands under a record into the secret.
func (v *vault) unseal(record string, stored []byte) ([]byte, error) {
	box, ok := bytes.CutPrefix(stored, sealed)
	if !ok {
		return stored, nil // from before there was a key file
	}
	if v.aead == nil {
		return nil, fmt.Errorf("%s: %w", record, ErrSealed)
	}
	plain, err := v.aead.Open(nil, nil, box, []byte(record))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", record, ErrSealed)
	}
	return plain, nil
}

// keep puts a secret under a record.
func (v *vault) keep(tx store.Tx, record string, secret []byte) error {
	return tx.Put(record, v.seal(record, secret))
}

func (v *vault) seal(record string, secret []byte) []byte {
	if v.aead == nil {
		return secret
	}
	return v.aead.Seal(bytes.Clone(sealed), nil, secret, []byte(record))
}

// isSecret reports whether a record of this package holds a secret.
func isSecret(record string) bool {
	return strings.HasSuffix(record, "/key") || strings.HasPrefix(record, ticketPrefix) || record == echRecord
}

// sealBatch is how many records sealAll changes at a time, of which each has
// less than 2 KiB.
const sealBatch = 64

// sealAll encrypts the secrets that were stored before there was a key file.
func (v *vault) sealAll(ctx context.Context) error {
	if v.aead == nil {
		return nil
	}
	var open []string
	for _, prefix := range []string{"cert/", ticketPrefix, echRecord} {
		for item, err := range v.Scan(ctx, prefix) {
			if err != nil {
				return fmt.Errorf("encrypt secrets: %w", err)
			}
			if isSecret(item.Key) && !bytes.HasPrefix(item.Value, sealed) {
				open = append(open, item.Key)
			}
		}
	}
	for len(open) > 0 {
		batch := open[:min(len(open), sealBatch)]
		open = open[len(batch):]
		err := v.Update(ctx, func(tx store.Tx) error {
			for _, record := range batch {
				secret, err := v.secret(ctx, tx, record)
				if err != nil {
					return err
				}
				if err := v.keep(tx, record, secret); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("encrypt secrets: %w", err)
		}
	}
	return nil
}
