package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
)

// TunnelConfig is where a tunnel has its local end.
type TunnelConfig struct {
	// IMAP and Submission are loopback addresses, or paths of Unix sockets.
	IMAP       []string `yaml:"imap"`
	Submission []string `yaml:"submission"`
	// NoLocalAuth lets every program in that comes there.
	NoLocalAuth bool `yaml:"no_local_auth"`
	// State is the file that keeps the local password's hash.
	State string `yaml:"state"`
}

func (c *TunnelConfig) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&c.IMAP, "imap", nil, "listen for IMAP on these `ADDRESSES` and paths of Unix sockets (default localhost:1143)")
	f.StringSliceVar(&c.Submission, "submission", nil, "listen for submission on these `ADDRESSES` and paths (default localhost:1587)")
	f.BoolVar(&c.NoLocalAuth, "no-local-auth", false, "let every user and program of this machine in, without a password")
	f.StringVar(&c.State, "state", "", "keep the local password, hashed, in `FILE` (default in the user's state directory)")
}

// beside makes paths relative to a directory. A path keeps a slash.
func (c *TunnelConfig) beside(dir string) {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	resolve := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	resolve(&c.State)
	for _, list := range [][]string{c.IMAP, c.Submission} {
		for i := range list {
			if strings.Contains(list[i], "/") {
				resolve(&list[i])
			}
		}
	}
}
