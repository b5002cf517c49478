package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"posthorn/admin"
	"posthorn/passkeys"
)

func (c *cli) passkeyCmd() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "passkey",
		Short: "See and remove passkeys, which sign in to the account pages",
		Long: `See and remove passkeys, which sign in to the account pages. They are made there, by
those whose they are.`,
	}, c.passkeyListCmd(), c.passkeyRemoveCmd())
}

func (c *cli) passkeyListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list ACCOUNT",
		Short:   "List the passkeys of an account",
		Example: "  posthorn passkey list alice@example.org",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				all, err := cl.ListPasskeys(ctx, args[0])
				if err != nil {
					return err
				}
				return c.print(all, func(w io.Writer) { passkeyTable(all).write(w) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func passkeyTable(all []passkeys.Passkey) table {
	var t table
	t.row("ID", "NAME", "SITE", "CREATED", "LAST USED", "SYNCED")
	for _, p := range all {
		synced := "no"
		if p.Synced {
			synced = "yes"
		}
		t.row(p.ID, p.Name, p.Host, when(p.Created), when(p.LastUsed), synced)
	}
	return t
}

func (c *cli) passkeyRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "remove ACCOUNT ID",
		Short:   "Remove a passkey, and sign out the sessions that it opened",
		Example: "  posthorn passkey remove alice@example.org k5fzq…",
		Args:    c.args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				n, err := cl.RemovePasskey(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "removed; signed out %s\n", plural(n, "session", "sessions"))
				return nil
			})
		},
	}
}
