package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"posthorn/admin"
	"posthorn/authkeys"
)

func (c *cli) keyCmd() *cobra.Command {
	key := &cobra.Command{
		Use:   "key",
		Short: "Manage the keys that log in",
		Long: `A public key that is registered for an account logs in to it: with a client
certificate that holds it, whatever else the certificate says. FINGERPRINT is what
"key list" shows: SHA256: and 43 characters.`,
	}
	return c.group(key, c.keyGenCmd(), c.keyAddCmd(), c.keyListCmd(), c.keyShowCmd(), c.keySetCmd(), c.keyRemoveCmd())
}

func (c *cli) keyAddCmd() *cobra.Command {
	var req admin.NewKey
	var file, expires string
	cmd := &cobra.Command{
		Use:   "add ACCOUNT",
		Short: "Register a public key for an account",
		Long: `Register the public key in a PEM certificate, a PEM public key or an OpenSSH public
key, read from standard input or --file. A private key in the same file is ignored
and never leaves this process. An account may have up to 1,000 keys.`,
		Example: `  posthorn key add alice@example.org < alice.pem
  posthorn key add alice@example.org --file ~/.ssh/id_ed25519.pub --name laptop
  posthorn key add alice@example.org --file phone.crt --scope imap,smtp --expires 90d`,
		Args: c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := c.readKey(file)
			if err != nil {
				return err
			}
			req.Account, req.PublicKey = args[0], text
			if expires != "" {
				if req.Expires, err = parseExpires(expires, time.Now()); err != nil {
					return err
				}
			}
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				k, err := cl.AddKey(ctx, req)
				if err != nil {
					return keyHint(err)
				}
				fmt.Fprintf(c.stderr, "registered %s key %q for %s\n", k.Type, k.Name, k.Address)
				if err := unfit(text); err != nil {
					fmt.Fprintf(c.stderr, "note: TLS cannot take this certificate (%v): make another one for the same key\n", err)
				}
				return c.print(k, func(w io.Writer) { fmt.Fprintln(w, k.Fingerprint) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "file", "", "read the key from `FILE` instead of standard input")
	f.StringVar(&req.Name, "name", "", "what to call the key, such as the device it is on")
	f.BoolVar(&req.NoPreauth, "no-preauth", false, "for programs that cannot take PREAUTH: they log in with AUTHENTICATE EXTERNAL")
	expiresFlag(f, &expires)
	scopeFlag(f, &req.Scope)
	return c.jsonFlag(cmd)
}

func expiresFlag(f *pflag.FlagSet, s *string) {
	f.StringVar(s, "expires", "", "refuse the key from `TIME` on: 2027-01-31, 2027-01-31T12:00:00Z, 12h, 90d, 2w, never")
}

func scopeFlag(f *pflag.FlagSet, s *authkeys.Scope) {
	f.TextVar(s, "scope", authkeys.Scope(0), "only for these `PROTOCOLS`, with commas between them: imap,smtp,https; all")
}

// maxKeyFile is how much of a key's file is read.
const maxKeyFile = 1 << 20

func (c *cli) readKey(file string) (string, error) {
	in := c.stdin
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	} else if isTerminal(c.stdin) {
		fmt.Fprintln(c.stderr, "paste a certificate or public key, then press Ctrl-D")
	}
	b, err := io.ReadAll(io.LimitReader(in, maxKeyFile))
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	if strings.TrimSpace(string(b)) == "" {
		return "", withHint(errors.New("there is no key to read"), "give it on standard input, or with --file")
	}
	return string(b), nil
}

// unfit says why a handshake will refuse the certificate in a text, whose key is
// good; nil: it will not, or there is none.
func unfit(text string) error {
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "CERTIFICATE") {
			_, err := x509.ParseCertificate(block.Bytes)
			return err
		}
	}
	return nil
}

// keyHint says what a key may look like to those who gave something else.
func keyHint(err error) error {
	var invalid *admin.InvalidError
	var typ *authkeys.UnacceptableError
	switch {
	case errors.As(err, &typ):
		return withHint(err, "accepted are Ed25519, ECDSA P-256, P-384 and P-521, and RSA of 2048 to 8192 bits")
	case errors.As(err, &invalid):
		return withHint(err, "give a PEM certificate, a PEM public key, or the line of an OpenSSH .pub file")
	}
	return err
}

var errExpires = &usageError{withHint(errors.New("--expires cannot be understood"),
	"write 2027-01-31, 2027-01-31T12:00:00Z, 12h, 90d, 2w or never")}

// parseExpires reads a time, a date (its beginning, here), a duration from
// now, or never, which is the zero time.
func parseExpires(s string, now time.Time) (time.Time, error) {
	if s == "never" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t, nil
	}
	d, err := parseDuration(s)
	if err != nil || d <= 0 {
		return time.Time{}, errExpires
	}
	return now.Add(d).Truncate(time.Second), nil
}

func (c *cli) keyListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list [ACCOUNT]",
		Short:   "List the registered keys",
		Example: "  posthorn key list\n  posthorn key list alice@example.org --json",
		Args:    c.args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			account := ""
			if len(args) > 0 {
				account = args[0]
			}
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				keys, err := cl.ListKeys(ctx, account)
				if err != nil {
					return err
				}
				return c.print(keys, func(w io.Writer) { keyTable(keys).write(w) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func keyTable(keys []admin.Key) table {
	var t table
	t.row("FINGERPRINT", "ACCOUNT", "NAME", "TYPE", "LAST USED", "EXPIRES", "SCOPE", "PREAUTH")
	for _, k := range keys {
		t.row(k.Fingerprint.String(), k.Address, k.Name, k.Type, whenOr(k.LastUsed, "never"),
			whenOr(k.Expires, "never"), k.Scope.String(), yesNo(!k.NoPreauth))
	}
	return t
}

func (c *cli) keyShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show FINGERPRINT",
		Short:   "Show a registered key",
		Example: "  posthorn key show SHA256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withKey(cmd.Context(), args[0], func(ctx context.Context, cl *admin.Client, f authkeys.Fingerprint) error {
				k, err := cl.ShowKey(ctx, f)
				if err != nil {
					return err
				}
				return c.print(k, func(w io.Writer) { printKey(w, k) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func printKey(w io.Writer, k *admin.Key) {
	var f fields
	f.add("Fingerprint", k.Fingerprint.String())
	f.add("Account", k.Address)
	f.add("Name", k.Name)
	f.add("Type", k.Type)
	f.add("Scope", k.Scope.String())
	f.add("Preauth", yesNo(!k.NoPreauth))
	f.add("Expires", whenOr(k.Expires, "never"))
	f.add("Created", when(k.Created))
	f.add("Last used", whenOr(k.LastUsed, "never"))
	if k.LastUse != "" {
		f.add("Last use", k.LastUse)
	}
	f.write(w)
}

// withKey calls do with a client and the fingerprint that an argument says.
func (c *cli) withKey(ctx context.Context, arg string, do func(context.Context, *admin.Client, authkeys.Fingerprint) error) error {
	f, err := authkeys.ParseFingerprint(arg)
	if err != nil {
		return &usageError{withHint(fmt.Errorf("%q is %w", arg, err), "key list shows the fingerprints of the registered keys")}
	}
	return c.withClient(ctx, func(ctx context.Context, cl *admin.Client) error { return do(ctx, cl, f) })
}

func (c *cli) keySetCmd() *cobra.Command {
	var set keySettings
	cmd := &cobra.Command{
		Use:   "set FINGERPRINT",
		Short: "Change a key's settings",
		Long: `Change what a key is called and what it may do. Sessions that the key opened and
that it may no longer open end at once.`,
		Example: `  posthorn key set SHA256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU --name phone --scope imap,smtp
  posthorn key set SHA256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU --expires never`,
		Args: c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := set.change(cmd.Flags().Changed)
			if err != nil {
				return err
			}
			if change == (admin.KeyChange{}) {
				return &usageError{withHint(errors.New("there is nothing to change"), "usage: %s", cmd.UseLine())}
			}
			return c.withKey(cmd.Context(), args[0], func(ctx context.Context, cl *admin.Client, f authkeys.Fingerprint) error {
				k, err := cl.SetKey(ctx, f, change)
				if err != nil {
					return err
				}
				return c.print(k, func(w io.Writer) { printKey(w, k) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&set.name, "name", "", "what to call the key")
	f.BoolVar(&set.preauth, "preauth", false, "greet its IMAP connections with PREAUTH")
	f.BoolVar(&set.noPreauth, "no-preauth", false, "have its IMAP connections log in with AUTHENTICATE EXTERNAL")
	exclusive(cmd, "preauth", "no-preauth")
	expiresFlag(f, &set.expires)
	scopeFlag(f, &set.scope)
	return c.jsonFlag(cmd)
}

// keySettings are the flags of "key set".
type keySettings struct {
	name, expires      string
	scope              authkeys.Scope
	preauth, noPreauth bool
}

// change returns what the given flags ask for.
func (s *keySettings) change(given func(flag string) bool) (change admin.KeyChange, err error) {
	if given("name") {
		change.Name = &s.name
	}
	if given("scope") {
		change.Scope = &s.scope
	}
	if given("preauth") {
		s.noPreauth = !s.preauth
	}
	if given("preauth") || given("no-preauth") {
		change.NoPreauth = &s.noPreauth
	}
	if given("expires") {
		at, err := parseExpires(s.expires, time.Now())
		if err != nil {
			return change, err
		}
		change.Expires = &at
	}
	return change, nil
}

func (c *cli) keyRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "remove FINGERPRINT",
		Short:   "Remove a key and end the sessions that it opened",
		Example: "  posthorn key remove SHA256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withKey(cmd.Context(), args[0], func(ctx context.Context, cl *admin.Client, f authkeys.Fingerprint) error {
				if err := cl.RemoveKey(ctx, f); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "removed key %s\n", f)
				return nil
			})
		},
	}
}
