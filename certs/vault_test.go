package certs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthorn/alpn"
	"posthorn/certs"
	"posthorn/store"
	"posthorn/store/storetest"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// records returns everything in a store.
func records(t *testing.T, kv store.KV) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for item, err := range kv.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all[item.Key] = item.Value
	}
	return all
}

// checkSealed fails when a record of a secret is not encrypted, or when another
// key file opens it.
func checkSealed(t *testing.T, config certs.Config) {
	t.Helper()
	secrets := 0
	for key, value := range records(t, config.Store) {
		if strings.HasSuffix(key, "/key") || strings.HasPrefix(key, "ticket/") || key == "ech/keys" {
			secrets++
			if !bytes.HasPrefix(value, []byte("\xffsealed\x01")) {
				t.Errorf("%s is not encrypted", key)
			}
		}
	}
	if secrets < 3 {
		t.Errorf("%d secrets", secrets)
	}
	config.KeyFile = filepath.Join(t.TempDir(), "other")
	writeFile(t, config.KeyFile, strings.Repeat("other!", 8))
	if _, err := certs.New(t.Context(), config); !errors.Is(err, certs.ErrSealed) {
		t.Errorf("with another key file: %v", err)
	}
	config.KeyFile = ""
	if _, err := certs.New(t.Context(), config); !errors.Is(err, certs.ErrSealed) {
		t.Errorf("without a key file: %v", err)
	}
}

// What was stored before there was a key file is encrypted when there is one,
// and stays what it was.
func TestKeyFileLater(t *testing.T) {
	config := certs.Config{Names: []string{"localhost"}, Store: storetest.Memory(t), ECHPublicName: "localhost"}
	m := newManager(t, config)
	_, key := m.Default()
	config.KeyFile = keyFile(t)
	again := newManager(t, config)
	if _, now := again.Default(); now != key {
		t.Error("the self-signed key has changed")
	}
	if again.TicketKeys(alpn.Mail)[0] != m.TicketKeys(alpn.Mail)[0] || !bytes.Equal(again.ECHConfigList(), m.ECHConfigList()) {
		t.Error("ticket or ECH keys have changed")
	}
	checkSealed(t, config)
}

func TestKeyFileErrors(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	writeFile(t, short, "123456789012345678901234567890 \n\n\n\n\n\n")
	for file, want := range map[string]error{short: certs.ErrKeyFile, short + "/none": nil} {
		_, err := certs.New(t.Context(), certs.Config{Names: []string{"localhost"}, Store: storetest.Memory(t), KeyFile: file})
		if err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// A secret that is moved to another record does not pass for that one's.
func TestSecretsAreBoundToTheirRecord(t *testing.T) {
	config := certs.Config{Names: []string{"localhost"}, Store: storetest.Memory(t), KeyFile: keyFile(t)}
	newManager(t, config)
	mail := records(t, config.Store)["ticket/mail"]
	if err := config.Store.Update(t.Context(), func(tx store.Tx) error { return tx.Put("ticket/web", mail) }); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.New(t.Context(), config); !errors.Is(err, certs.ErrSealed) {
		t.Error(err)
	}
}
