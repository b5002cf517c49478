package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"

	"posthorn/store/badgerkv"
)

var (
	errHalfRestored = errors.New("a restore into it was interrupted")
	errNoStore      = errors.New("there is mail in it, but no accounts")
)

// harden keeps what the process holds to itself: no core dump and no debugger
// sees its keys, files are its user's only, and no program that it were made to
// start could have more rights than itself.
func harden() error {
	unix.Umask(0o077)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	// This one is a thread's; psx reaches all of them, with cgo and without.
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("forbid new privileges: %w", errno)
	}
	return nil
}

// warnOfFiles warns when the system gives the process fewer descriptors than
// the connections that it is to accept.
func warnOfFiles(log zerolog.Logger, connections int) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < uint64(connections) {
		log.Warn().Uint64("have", limit.Cur).Int("want", connections).
			Msg("too few file descriptors for limits.connections: raise LimitNOFILE= (ulimit -n)")
	}
}

// prepareData makes the data directory, and refuses one that has lost its
// accounts: a gateway that started with none would be one that nobody can log
// in to.
func prepareData(cfg *Config) error {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	for _, dir := range []string{cfg.storeDir(), cfg.mailDir()} {
		if exists(dir + restoring) {
			return withHint(fmt.Errorf("data directory %s: %w", cfg.DataDir, errHalfRestored), "empty it and restore again")
		}
	}
	if exists(cfg.mailDir()) && !exists(cfg.storeDir()) {
		return withHint(fmt.Errorf("data directory %s: %w", cfg.DataDir, errNoStore),
			"restore a backup into an empty directory, or remove %s to begin anew", cfg.mailDir())
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// openError adds what to do about a store that cannot be opened.
func openError(cfg *Config, err error) error {
	switch {
	case errors.Is(err, badgerkv.ErrInUse):
		return withHint(err, "a gateway is running on %s already: stop it, or use another directory with --data", cfg.DataDir)
	case errors.Is(err, badgerkv.ErrCorrupt):
		return withHint(err, "move %s away, and restore a backup", cfg.DataDir)
	}
	return err
}
