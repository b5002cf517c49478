package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"posthorn/authkeys"
)

// runCLI runs a command line and returns its exit code and what it wrote.
func runCLI(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	e := testEnv()
	e.args, e.stdin, e.stdout, e.stderr = append(e.args, args...), bytes.NewBufferString(stdin), &out, &errs
	code = e.run()
	return code, out.String(), errs.String()
}

func TestKeyGen(t *testing.T) {
	tests := []struct {
		name, typ string
		args      []string
	}{
		{"default", "ECDSA P-256", nil},
		{"ed25519", "Ed25519", []string{"--type", "ed25519"}},
		{"legacy", "ECDSA P-256", []string{"--p12-legacy"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "alice")
			args := append([]string{"key", "gen", "--json", "--for", "alice@example.org", "--out", out}, tt.args...)
			code, stdout, stderr := runCLI(t, "", args...)
			if code != exitOK {
				t.Fatal(stderr)
			}
			var g generated
			if err := json.Unmarshal([]byte(stdout), &g); err != nil {
				t.Fatal(err)
			}
			if g.Type != tt.typ || g.Both != out+".pem" {
				t.Errorf("%+v", g)
			}
			checkPair(t, g.Certificate, g.Key, g.Fingerprint)
			checkPair(t, g.Both, g.Both, g.Fingerprint)
			checkP12(t, g)
			for _, name := range []string{g.Key, g.Certificate, g.Both, g.P12} {
				if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", name, fi.Mode(), err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".*")); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

func checkPair(t *testing.T, cert, key string, want authkeys.Fingerprint) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := authkeys.FromCertificate(pair.Leaf)
	if err != nil || pub.Fingerprint != want {
		t.Errorf("%s has key %s, %v", cert, pub.Fingerprint, err)
	}
	if pair.Leaf.Subject.CommonName != "alice@example.org" || pair.Leaf.NotAfter.Before(time.Now().AddDate(100, 0, 0)) {
		t.Errorf("certificate for %s until %v", pair.Leaf.Subject, pair.Leaf.NotAfter)
	}
	file, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if pub, err := authkeys.ParsePublicKey(file); err != nil || pub.Fingerprint != want {
		t.Errorf("%s is read as %s, %v", cert, pub.Fingerprint, err)
	}
}

func checkP12(t *testing.T, g generated) {
	t.Helper()
	data, err := os.ReadFile(g.P12)
	if err != nil {
		t.Fatal(err)
	}
	_, cert, err := pkcs12.Decode(data, g.Passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if pub, err := authkeys.FromCertificate(cert); err != nil || pub.Fingerprint != g.Fingerprint {
		t.Errorf("the .p12 has key %s, %v", pub.Fingerprint, err)
	}
	if len(g.Passphrase) < 16 {
		t.Errorf("passphrase %q", g.Passphrase)
	}
}

// A second run overwrites nothing, not even the files that are not there, and
// never through a link.
func TestKeyGenOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "alice")
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, out+".p12"); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := runCLI(t, "", "key", "gen", "--out", out); code != exitError {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(out + ".key"); err == nil {
		t.Error("some of the files were written")
	}
	if code, _, stderr := runCLI(t, "", "key", "gen", "--out", out, "--force"); code != exitOK {
		t.Error(stderr)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("the link's target holds %q, %v", b, err)
	}
}

func TestExpires(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 5, time.UTC)
	day := time.Date(2027, 1, 31, 0, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"never":                {},
		"2027-01-31":           day,
		"2027-01-31T12:00:00Z": time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC),
		"90d":                  now.Truncate(time.Second).AddDate(0, 0, 90),
		"2w":                   now.Truncate(time.Second).AddDate(0, 0, 14),
		"1h30m":                now.Truncate(time.Second).Add(90 * time.Minute),
	} {
		if got, err := parseExpires(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "soon", "-1h", "0s", "1y", "99999999999d", "2027-02-30", "d"} {
		if got, err := parseExpires(text, now); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}
