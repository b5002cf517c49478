package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"posthorn/admin"
)

func (c *cli) backendCmd() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "backend",
		Short: "See the mail systems behind the gateway",
		Long: `A backend is where accounts' mail is: a mail system behind the gateway, of which the
configuration (backends) says where its servers are, or "embedded", the gateway's own
mailboxes.`,
	}, c.backendListCmd())
}

func (c *cli) backendListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backends' servers, and whether they are up",
		Example: `  posthorn backend list
  posthorn backend list --json | jq -r '.[] | select(.state == "down").address'`,
		Args: c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				all, err := cl.ListBackends(ctx)
				if err != nil {
					return err
				}
				return c.print(all, func(w io.Writer) { backendTable(all).write(w) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func backendTable(all []admin.BackendStatus) table {
	var t table
	t.row("NAME", "SERVICE", "ADDRESS", "STATE", "SINCE", "CONNECTIONS", "ERROR")
	for _, b := range all {
		conns := ""
		if b.Address != "" {
			conns = fmt.Sprint(b.Conns)
		}
		t.row(b.Name, b.Service, b.Address, b.State, when(b.Since), conns, b.Error)
	}
	return t
}
