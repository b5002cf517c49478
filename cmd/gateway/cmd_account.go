package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"posthorn/admin"
)

func (c *cli) accountCmd() *cobra.Command {
	address := &cobra.Command{
		Use:   "address",
		Short: "Give and take addresses",
		Long:  "An account may have several addresses. It sends as each of them, and what is sent to\nany of them arrives in its one mailbox.",
	}
	c.group(address, c.addressAddCmd(), c.addressRemoveCmd())
	account := &cobra.Command{
		Use:   "account",
		Short: "Manage accounts",
		Long: `An account is whose mail it is. ACCOUNT is one of its addresses, or its ID, which
"account list" shows.`,
	}
	return c.group(account, c.accountAddCmd(), c.accountListCmd(), c.accountShowCmd(), c.accountDisableCmd(true),
		c.accountDisableCmd(false), c.accountRemoveCmd(), c.accountPasswordCmd(), c.accountBackendCmd(),
		c.accountLoginsCmd(), address)
}

func (c *cli) accountAddCmd() *cobra.Command {
	var stdin, none bool
	var backend string
	cmd := &cobra.Command{
		Use:   "add ADDRESS",
		Short: "Create an account and print its generated password",
		Long: `Create an account. Its generated password is printed on standard output, once: it
is stored in a form from which nobody can read it again.

Where the mail system behind the gateway keeps passwords, none is generated: users log
in with the one that they have there, and the first time they do so creates the account
if need be. Create it before that to add keys to it.`,
		Example: `  posthorn account add alice@example.org
  posthorn account add bob@example.org --password-stdin < password.txt
  posthorn account add carol@example.org --no-password    # keys only
  posthorn account add dave@example.org --backend mail`,
		Args: c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := c.newPassword(stdin, none)
			if err != nil {
				return err
			}
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				a, err := cl.AddAccount(ctx, admin.NewAccount{Address: args[0], Password: password, Backend: backend})
				if err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "created account %s\n", a.Primary())
				if a.Home.KeepsPasswords {
					fmt.Fprintf(c.stderr, "its password is the one that it has at backend %s\n", a.Home.Backend)
				}
				return c.print(a, func(w io.Writer) { printPassword(w, a.GeneratedPassword) })
			})
		},
	}
	passwordFlags(cmd, &stdin, &none, "create the account without a password: only keys log in")
	cmd.Flags().StringVar(&backend, "backend", "", "keep its mail at the backend `NAME`, whatever its domain's is")
	return c.jsonFlag(cmd)
}

func passwordFlags(cmd *cobra.Command, stdin, none *bool, noneUsage string) {
	cmd.Flags().BoolVar(stdin, "password-stdin", false, "read the password from the first line of standard input")
	cmd.Flags().BoolVar(none, "no-password", false, noneUsage)
	exclusive(cmd, "password-stdin", "no-password")
}

// newPassword returns the password that the flags ask for.
func (c *cli) newPassword(stdin, none bool) (admin.NewPassword, error) {
	switch {
	case none:
		return admin.NewPassword{}, nil
	case !stdin:
		return admin.NewPassword{Generate: true}, nil
	}
	line, err := bufio.NewReader(io.LimitReader(c.stdin, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return admin.NewPassword{}, fmt.Errorf("read the password: %w", err)
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if line == "" {
		return admin.NewPassword{}, withHint(errors.New("standard input holds no password"), "--no-password is for accounts without one")
	}
	return admin.NewPassword{Chosen: line}, nil
}

func printPassword(w io.Writer, password string) {
	if password != "" {
		fmt.Fprintln(w, password)
	}
}

func (c *cli) accountListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the accounts",
		Example: "  posthorn account list\n  posthorn account list --json | jq -r '.[].addresses[0]'",
		Args:    c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				all, err := cl.ListAccounts(ctx)
				if err != nil {
					return err
				}
				return c.print(all, func(w io.Writer) { accountTable(all).write(w) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func accountTable(all []admin.Account) table {
	var t table
	t.row("ADDRESS", "MORE", "STATE", "PASSWORD", "BACKEND", "CREATED", "ID")
	for _, a := range all {
		more := ""
		if n := len(a.Addresses) - 1; n > 0 {
			more = fmt.Sprintf("+%d", n)
		}
		t.row(a.Primary(), more, accountState(a), passwordState(a), a.Home.Backend, when(a.Created), a.ID)
	}
	return t
}

func accountState(a admin.Account) string {
	if a.Disabled {
		return "disabled"
	}
	return "enabled"
}

// passwordState says whether there is a password, or that others know.
func passwordState(a admin.Account) string {
	if a.Home.KeepsPasswords {
		return "elsewhere"
	}
	return yesNo(a.Password)
}

func (c *cli) accountShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ACCOUNT",
		Short:   "Show an account with its keys and how much mail it has",
		Example: "  posthorn account show alice@example.org",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				a, err := cl.ShowAccount(ctx, args[0])
				if err != nil {
					return err
				}
				return c.print(a, func(w io.Writer) { printAccount(w, a) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func printAccount(w io.Writer, a *admin.AccountDetails) {
	var f fields
	f.add("Addresses", strings.Join(a.Addresses, ", "))
	f.add("ID", a.ID)
	f.add("State", accountState(a.Account))
	f.add("Password", passwordState(a.Account))
	f.add("Backend", homeText(a.Account))
	f.add("Created", when(a.Created))
	f.add("Connections", fmt.Sprint(a.Conns))
	if a.Mail != nil {
		f.add("Mail", fmt.Sprintf("%s, %s", plural(a.Mail.Messages, "message", "messages"), bytesText(a.Mail.Bytes)))
	}
	f.add("Keys", fmt.Sprint(len(a.Keys)))
	f.write(w)
	if len(a.Keys) > 0 {
		fmt.Fprintln(w)
		keyTable(a.Keys).write(w)
	}
}

// homeText says where an account's mail is, and why there.
func homeText(a admin.Account) string {
	if a.Backend == "" {
		return a.Home.Backend + " (by default)"
	}
	return a.Home.Backend
}

func (c *cli) accountBackendCmd() *cobra.Command {
	var standard bool
	cmd := &cobra.Command{
		Use:   "backend ACCOUNT [NAME]",
		Short: "Show where an account's mail is, or lead it elsewhere",
		Long: `Show which backend an account's mail is at, or with NAME or --default lead the account
to another one, and end its sessions. The mail itself, and a password, are not moved.
"embedded" are the gateway's own mailboxes.`,
		Example: `  posthorn account backend alice@example.org
  posthorn account backend alice@example.org mail
  posthorn account backend alice@example.org --default   # that of its domain`,
		Args: c.args(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if standard && len(args) > 1 {
				return &usageError{errors.New("either NAME or --default")}
			}
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				if standard || len(args) > 1 {
					if _, err := cl.SetBackend(ctx, args[0], strings.Join(args[1:], "")); err != nil {
						return err
					}
				}
				a, err := cl.ShowAccount(ctx, args[0])
				if err != nil {
					return err
				}
				return c.print(a.Home, func(w io.Writer) { fmt.Fprintln(w, homeText(a.Account)) })
			})
		},
	}
	cmd.Flags().BoolVar(&standard, "default", false, "lead it to the backend of its domain again")
	return c.jsonFlag(cmd)
}

func (c *cli) accountDisableCmd(disable bool) *cobra.Command {
	verb, short := "enable", "Let a disabled account log in again"
	if disable {
		verb, short = "disable", "End an account's sessions and refuse its logins; it keeps receiving"
	}
	return &cobra.Command{
		Use:     verb + " ACCOUNT",
		Short:   short,
		Example: "  posthorn account " + verb + " alice@example.org",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				a, err := cl.SetDisabled(ctx, args[0], disable)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "%sd account %s\n", verb, a.Primary())
				return nil
			})
		},
	}
}

func (c *cli) accountRemoveCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove ACCOUNT --yes",
		Short: "Delete an account with its addresses, keys and all its mail",
		Long: `Delete an account with its addresses, keys and all its mail here. Nothing is deleted at
a mail system behind the gateway: if that keeps passwords, the user can still log in with
one, which creates the account anew. "account disable" keeps it out.`,
		Example: "  posthorn account remove alice@example.org --yes",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return withHint(fmt.Errorf("this deletes the account %s with its keys and all its mail, for good", args[0]),
					"say --yes if that is what you want; account disable only locks it")
			}
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				if err := cl.RemoveAccount(ctx, args[0]); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "removed account %s\n", args[0])
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, delete it for good")
	return cmd
}

func (c *cli) accountPasswordCmd() *cobra.Command {
	var stdin, none bool
	cmd := &cobra.Command{
		Use:   "password ACCOUNT",
		Short: "Give an account a new password and print it",
		Long: `Replace an account's password with a generated one, which is printed once. Sessions
that the old password opened end. One that a mail system behind the gateway keeps is to be
replaced there.`,
		Example: `  posthorn account password alice@example.org
  posthorn account password alice@example.org --password-stdin < password.txt
  posthorn account password alice@example.org --no-password`,
		Args: c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.newPassword(stdin, none)
			if err != nil {
				return err
			}
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				password, err := cl.SetPassword(ctx, args[0], p)
				if err != nil {
					return err
				}
				return c.print(password, func(w io.Writer) { printPassword(w, password) })
			})
		},
	}
	passwordFlags(cmd, &stdin, &none, "take the password away: only keys log in")
	return cmd
}

func (c *cli) addressAddCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "add ACCOUNT ADDRESS",
		Short:   "Give an account one more address",
		Example: "  posthorn account address add alice@example.org postmaster@example.org",
		Args:    c.args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.changeAddress(cmd.Context(), args, (*admin.Client).AddAddress)
		},
	}
}

func (c *cli) addressRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "remove ACCOUNT ADDRESS",
		Short:   "Take an address from an account",
		Example: "  posthorn account address remove alice@example.org postmaster@example.org",
		Args:    c.args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.changeAddress(cmd.Context(), args, (*admin.Client).RemoveAddress)
		},
	}
}

func (c *cli) changeAddress(ctx context.Context, args []string,
	change func(*admin.Client, context.Context, string, string) (*admin.Account, error)) error {
	return c.withClient(ctx, func(ctx context.Context, cl *admin.Client) error {
		a, err := change(cl, ctx, args[0], args[1])
		if err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "addresses of the account: %s\n", strings.Join(a.Addresses, ", "))
		return nil
	})
}
