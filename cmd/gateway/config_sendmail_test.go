package main

import (
	"path/filepath"
	"slices"
	"testing"
)

// The example is understood, and says every key of its own.
func TestSendmailExample(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	c := &cli{env: testEnv()}
	cfg, err := c.sendmailConfig("../../examples/sendmail/sendmail.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "mail.example.org" || cfg.From != "me@example.org" || cfg.Queue != filepath.Join(home, ".local/state/posthorn/sendmail") {
		t.Errorf("%+v", cfg)
	}
	if a := cfg.aliases(); !slices.Equal(a["root"], []string{"me@example.org"}) || len(a) != 2 {
		t.Errorf("%v", a)
	}
}
