package client

import "io/fs"

// NetworkOf is Network on a machine with these files.
func NetworkOf(machine fs.FS) string { return networkOf(machine) }
