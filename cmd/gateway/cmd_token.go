package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"posthorn/admin"
)

func (c *cli) tokenCmd() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "token",
		Short: "Manage tokens for the administration API",
		Long: `A token lets a program administer the gateway over HTTPS, where admin.host is
configured: with "Authorization: Bearer TOKEN", or with --server and --token-file. Its
scope says what it may do: "read" sees everything but secrets, "accounts" also changes
accounts with all that is theirs, "all" may do everything. A token that is made with a
token expires with that one at the latest, and is removed with it.`,
	}, c.tokenAddCmd(), c.tokenListCmd(), c.tokenRemoveCmd())
}

func (c *cli) tokenAddCmd() *cobra.Command {
	var scope, expires string
	cmd := &cobra.Command{
		Use:     "add NAME",
		Short:   "Make a token and print it",
		Long:    "Make a token. It is printed on standard output, once: it is stored in a form from\nwhich nobody can read it again. It is good for 90 days, if nothing else is\nsaid, and for two years at most.",
		Example: "  (umask 077; posthorn token add monitoring > token)\n  posthorn token add helpdesk --scope accounts --expires 30d",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := admin.NewToken{Name: args[0]}
			var err error
			if req.Scope, err = admin.ParseScope(scope); err != nil {
				return &usageError{fmt.Errorf("--scope: %w", err)}
			}
			if expires != "" {
				if req.Expires, err = parseExpires(expires, time.Now()); err != nil {
					return err
				}
				if req.Expires.IsZero() {
					return &usageError{withHint(errors.New("every token expires"), "two years are the most: --expires 730d")}
				}
			}
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				t, err := cl.AddToken(ctx, req)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "made token %s, until %s\n", t.ID, when(t.Expires))
				return c.print(t, func(w io.Writer) { fmt.Fprintln(w, t.Text) })
			})
		},
	}
	cmd.Flags().StringVar(&scope, "scope", "read", "what it may do: `SCOPE` is read, accounts or all")
	cmd.Flags().StringVar(&expires, "expires", "", "refuse the token from `TIME` on: 2027-01-31, 12h, 90d, 2w")
	return c.jsonFlag(cmd)
}

func (c *cli) tokenListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the tokens",
		Example: "  posthorn token list",
		Args:    c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				all, err := cl.ListTokens(ctx)
				if err != nil {
					return err
				}
				return c.print(all, func(w io.Writer) { tokenTable(all).write(w) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func tokenTable(all []admin.Token) table {
	var t table
	t.row("ID", "NAME", "SCOPE", "EXPIRES", "LAST USED", "CREATED", "BY")
	for _, k := range all {
		t.row(k.ID, k.Name, k.Scope.String(), when(k.Expires), whenOr(k.LastUsed, "never"), when(k.Created), k.By)
	}
	return t
}

func (c *cli) tokenRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "remove ID",
		Short:   "Revoke a token",
		Example: "  posthorn token remove k3zq7w2m5a",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				if err := cl.RemoveToken(ctx, args[0]); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "removed token %s\n", args[0])
				return nil
			})
		},
	}
}
