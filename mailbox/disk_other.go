//go:build !linux

package mailbox

import "os"

// fdatasync puts a file on disk.
func fdatasync(f *os.File) error { return f.Sync() }

// punchHole does nothing: the room comes back with the whole pack.
func punchHole(*os.File, int64, int64) error { return nil }
