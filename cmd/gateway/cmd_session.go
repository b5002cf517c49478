package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/sessions"
)

func (c *cli) sessionCmd() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "session",
		Short: "See and end sessions on the account pages",
	}, c.sessionListCmd(), c.sessionRemoveCmd())
}

func (c *cli) sessionListCmd() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List who is signed in to the account pages",
		Example: "  posthorn session list\n  posthorn session list --account alice@example.org",
		Args:    c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				all, err := cl.ListSessions(ctx, account)
				if err != nil {
					return err
				}
				return c.print(all, func(w io.Writer) { sessionTable(all).write(w) })
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "only those of `ACCOUNT`, an address or ID")
	return c.jsonFlag(cmd)
}

func sessionTable(all []sessions.Session) table {
	var t table
	t.row("ID", "ADDRESS", "BY", "SINCE", "LAST SEEN", "REMOTE", "BROWSER")
	for _, s := range all {
		t.row(s.ID, s.Address, string(s.How), when(s.Created), when(s.LastSeen), s.Remote, s.UserAgent)
	}
	return t
}

func (c *cli) sessionRemoveCmd() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use:     "remove {ID | --account ACCOUNT}",
		Short:   "Sign out a session, or all of an account",
		Example: "  posthorn session remove 4f2c9a…\n  posthorn session remove --account alice@example.org",
		Args:    c.args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (account != "") {
				return &usageError{withHint(errors.New("say which session to sign out"), "usage: %s", cmd.UseLine())}
			}
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				n, err := 1, error(nil)
				if account != "" {
					n, err = cl.EndSessions(ctx, account)
				} else {
					err = cl.EndSession(ctx, args[0])
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "signed out %s\n", plural(n, "session", "sessions"))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "all of `ACCOUNT`, an address or ID")
	cmd.DisableFlagsInUseLine = true
	return cmd
}

func (c *cli) accountLoginsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logins ACCOUNT",
		Short: "List the latest logins, and failures",
		Long: `List the latest logins to an account, and failures to log in to it, newest first.
Those of one kind that come within an hour are one.`,
		Example: "  posthorn account logins alice@example.org",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				all, err := cl.RecentLogins(ctx, args[0])
				if err != nil {
					return err
				}
				return c.print(all, func(w io.Writer) { loginTable(all).write(w) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func loginTable(all []accounts.Attempt) table {
	var t table
	t.row("TIME", "TIMES", "PROTOCOL", "MECHANISM", "KEY", "REMOTE", "RESULT")
	for _, a := range all {
		key, remote, result := "", "", "ok"
		if !a.Key.IsZero() {
			key = a.Key.String()
		}
		if a.Remote.IsValid() {
			remote = a.Remote.String()
		}
		if a.Reason != "" {
			result = string(a.Reason)
		}
		t.row(when(a.Time), strconv.Itoa(a.Count), a.Protocol, a.Mechanism, key, remote, result)
	}
	return t
}
