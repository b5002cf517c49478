package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"posthorn/admin"
	"posthorn/mux"
)

func (c *cli) connCmd() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "conn",
		Short: "See and close live connections",
	}, c.connListCmd(), c.connCloseCmd())
}

func (c *cli) connListCmd() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the live connections",
		Example: "  posthorn conn list\n  posthorn conn list --account alice@example.org --json",
		Args:    c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				conns, err := cl.ListConns(ctx, account)
				if err != nil {
					return err
				}
				return c.print(conns, func(w io.Writer) { connTable(conns).write(w) })
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "only those of `ACCOUNT`, an address or ID")
	return c.jsonFlag(cmd)
}

func connTable(conns []mux.Info) table {
	var t table
	t.row("ID", "PROTOCOL", "REMOTE", "SINCE", "ACCOUNT", "MECHANISM", "IN", "OUT")
	for _, i := range conns {
		t.row(strconv.FormatUint(i.ID, 10), string(i.Protocol), i.Remote.String(), i.Since.Local().Format(time.DateTime),
			i.Identity.Address, i.Identity.Mechanism, bytesText(int64(i.In)), bytesText(int64(i.Out)))
	}
	return t
}

func (c *cli) connCloseCmd() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use:     "close {ID | --account ACCOUNT}",
		Short:   "Close a live connection, or all of an account",
		Long:    "Close live connections. Their clients can connect again at once; to keep them out,\ndisable the account or remove the key.",
		Example: "  posthorn conn close 1234\n  posthorn conn close --account alice@example.org",
		Args:    c.args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (account != "") {
				return &usageError{withHint(errors.New("say which connection to close"), "usage: %s", cmd.UseLine())}
			}
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				if account != "" {
					return c.closeAll(ctx, cl, account)
				}
				id, err := strconv.ParseUint(args[0], 10, 64)
				if err != nil {
					return &usageError{withHint(fmt.Errorf("%q is not the ID of a connection", args[0]), "conn list shows the IDs")}
				}
				return cl.CloseConn(ctx, id)
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "close all connections of `ACCOUNT`, an address or ID")
	cmd.DisableFlagsInUseLine = true
	return cmd
}

func (c *cli) closeAll(ctx context.Context, cl *admin.Client, account string) error {
	n, err := cl.CloseConns(ctx, account)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "closed %s\n", plural(n, "connection", "connections"))
	return nil
}
