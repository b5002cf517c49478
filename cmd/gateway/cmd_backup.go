package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"posthorn/admin"
)

func (c *cli) backupCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "backup {FILE | -}",
		Short: "Write everything into a file while the gateway serves",
		Long: `Write accounts, keys, certificates and mail into a file that only you can read, or,
with "-", to standard output. The copy is consistent, and the gateway goes on
serving meanwhile. It holds the gateway's private keys: keep it safe.`,
		Example: "  posthorn backup posthorn-2027-01-31.zip\n  posthorn backup - | ssh backup.example.org 'cat > posthorn.zip'",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				if args[0] == "-" {
					return cl.Backup(ctx, c.stdout)
				}
				if err := backupTo(ctx, cl, args[0]); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "wrote %s\n", args[0])
				return nil
			})
		},
	}
}

// backupTo writes a backup that appears at its name once it is complete and on
// disk.
func backupTo(ctx context.Context, cl *admin.Client, name string) error {
	if info, err := os.Lstat(name); err == nil && !info.Mode().IsRegular() { // /dev/stdout, or a link
		return withHint(fmt.Errorf("%s is not a file, and would be replaced", name), "name a file, or - for standard output")
	}
	return writeSecret(name, true, func(w io.Writer) error { return cl.Backup(ctx, w) })
}

func (c *cli) restoreCmd() *cobra.Command {
	return c.here(&cobra.Command{
		Use:   "restore FILE",
		Short: "Fill an empty data directory from a backup, without a gateway",
		Long: `Fill the data directory from a backup. It must be empty or not be there, and no
gateway may run on it. The file is checked before anything is written, and a
restore that is interrupted leaves nothing that a gateway would start on.`,
		Example: "  posthorn restore posthorn-2027-01-31.zip --data /var/lib/posthorn",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.config()
			if err != nil {
				return err
			}
			if err := harden(); err != nil {
				return err
			}
			if err := c.refuseRunning(cmd.Context(), cfg); err != nil {
				return err
			}
			if err := restore(cmd.Context(), args[0], cfg); err != nil {
				return err
			}
			fmt.Fprintf(c.stderr, "restored %s into %s\n", args[0], cfg.DataDir)
			return nil
		},
	}, "run it on the machine that the gateway is to run on")
}

// refuseRunning fails when a gateway answers on the data directory's socket.
func (c *cli) refuseRunning(ctx context.Context, cfg *Config) error {
	cl := admin.NewClient(cfg.socket())
	defer cl.Close()
	if _, err := cl.Status(ctx); err == nil {
		return withHint(fmt.Errorf("a gateway is running on %s", cfg.DataDir), "stop it first, or restore into another directory with --data")
	}
	return nil
}

// restoring marks directories that a restore has not finished.
const restoring = ".restoring"

var errNotEmpty = errors.New("the data directory is not empty")

// restore fills the data directory of cfg from the backup in a file.
func restore(ctx context.Context, file string, cfg *Config) error {
	b, err := openBackup(ctx, file)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	if entries, err := os.ReadDir(cfg.DataDir); err != nil || len(entries) > 0 {
		return withHint(errors.Join(err, fmt.Errorf("%s: %w", cfg.DataDir, errNotEmpty)),
			"name an empty directory with --data, or move what is there out of the way")
	}
	parts := []struct {
		name, dir string
		fill      func(ctx context.Context, dir string, r io.Reader) error
	}{
		{admin.BackupStoreName, cfg.storeDir(), fillStore},
		{admin.BackupMailName, cfg.mailDir(), fillMail},
	}
	for _, p := range parts {
		if err := b.extract(p.name, func(r io.Reader) error { return p.fill(ctx, p.dir+restoring, r) }); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if err := os.Rename(p.dir+restoring, p.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return syncDir(cfg.DataDir)
}
