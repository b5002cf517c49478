package main

import (
	"github.com/spf13/cobra"
)

func (c *cli) serveCmd() *cobra.Command {
	return c.here(&cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: `Run the gateway until SIGTERM or SIGINT, then let connections end for up to
shutdown_timeout. SIGHUP reads certificate files again, and what config.yaml marks with
(reload): limits, log level, sites, operators' keys.

Without a configuration file it is a mail server for this machine only: mailboxes
of its own in ./posthorn-data, a self-signed certificate for localhost, and ports
8443 (everything), 8993 (IMAP) and 8465 (submission) on the loopback addresses.

Where it listens goes to standard output, the log to standard error. systemd can
pass the sockets, with FileDescriptorName= shared, imaps, submissions, imap,
submission, http and admin, and is told when the gateway is ready (Type=notify or
notify-reload).`,
		Example: "  posthorn serve\n  posthorn serve --config /etc/posthorn/config.yaml",
		Args:    c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.serve(cmd.Context())
		},
	}, "run it on the machine that the gateway is to run on")
}
