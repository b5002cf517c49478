package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"posthorn/admin"
	"posthorn/certs/zone"
)

func (c *cli) certCmd() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "cert",
		Short: "See, renew and check certificates",
		Long: `Every server name has a certificate: from a file, from a CA with ACME, or self-signed
(tls in the configuration). They renew themselves.`,
	}, c.certListCmd(), c.certShowCmd(), c.certRenewCmd(), c.certCheckCmd())
}

func (c *cli) certListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the certificates of all server names",
		Example: `  posthorn cert list
  posthorn cert list --json | jq -r '.[] | select(.error).name'`,
		Args: c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				all, err := cl.ListCerts(ctx)
				if err != nil {
					return err
				}
				return c.print(all, func(w io.Writer) { certTable(all).write(w) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func certTable(all []admin.Cert) table {
	var t table
	t.row("NAME", "SOURCE", "KEY", "ISSUER", "NOT AFTER", "NEXT RENEWAL", "LAST ERROR")
	for _, x := range all {
		t.row(x.Name, string(x.Source), string(x.KeyType), whoIssued(x), when(x.NotAfter), when(x.NextRenewal), x.Error)
	}
	return t
}

// whoIssued is the issuer's name; empty when there is no certificate yet.
func whoIssued(x admin.Cert) string {
	if !x.NotAfter.IsZero() && x.Issuer == "" {
		return "(nameless)"
	}
	return x.Issuer
}

func (c *cli) certShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show the certificates of a server name",
		Example: "  posthorn cert show mail.example.org",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				all, err := cl.ShowCert(ctx, args[0])
				if err != nil {
					return err
				}
				return c.print(all, func(w io.Writer) { printCerts(w, all) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func printCerts(w io.Writer, all []admin.Cert) {
	for i, x := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		var f fields
		f.add("Name", x.Name)
		f.add("Source", string(x.Source))
		if x.File != "" {
			f.add("File", x.File)
		}
		f.add("Key", string(x.KeyType))
		if x.NotAfter.IsZero() {
			f.add("Certificate", "none yet")
		} else {
			f.add("Public key", x.Fingerprint.String())
			f.add("Issuer", whoIssued(x))
			f.add("Not before", when(x.NotBefore))
			f.add("Not after", when(x.NotAfter))
			f.add("For", strings.Join(x.Names, ", "))
		}
		f.add("Next renewal", when(x.NextRenewal))
		if x.Error != "" {
			f.add("Last error", x.Error)
		}
		f.write(w)
	}
}

func (c *cli) certRenewCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "renew NAME",
		Short: "Get new certificates for a server name now",
		Long: `Get new certificates for a server name from the CA, or make new self-signed ones, due
or not. The command waits for the CA, which takes seconds or minutes. The private keys
stay the same. CAs limit how often they certify a name: Let's Encrypt, five times a week.`,
		Example: "  posthorn cert renew mail.example.org",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				all, err := cl.RenewCert(ctx, args[0])
				if err != nil {
					return err
				}
				return c.print(all, func(w io.Writer) { certTable(all).write(w) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

// errCheck says that a check found something, which has been printed.
var errCheck = errors.New("not everything is as it should be")

// checked is a check of a name with what the DNS says about it.
type checked struct {
	admin.CertCheck
	DNS []finding `json:"dns,omitempty"`
}

func (c *cli) certCheckCmd() *cobra.Command {
	var address, resolver string
	cmd := &cobra.Command{
		Use:   "check [NAME...]",
		Short: "Look at server names as a client from outside does",
		Long: `Have the gateway connect to itself as a client from outside does, under each NAME or
under all, and say whether the chain, the name and the key are as they should be; and
compare what the DNS says of the name with what it should. Exit with 1 if a client would
not be content. Records that are missing are hints, and no reason for that.`,
		Example: `  posthorn cert check
  posthorn cert check mail.example.org --address 192.0.2.1:443   # wherever the DNS leads`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				r, err := findResolver(resolver)
				if err != nil {
					return err
				}
				all, err := checkCerts(ctx, cl, r, names, address)
				if err != nil {
					return err
				}
				if err := c.print(all, func(w io.Writer) { printChecks(w, all) }); err != nil {
					return err
				}
				for _, x := range all {
					if len(x.Problems) > 0 {
						return errCheck
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&address, "address", "", "connect to `HOST:PORT` instead of where the DNS leads")
	resolverFlag(cmd, &resolver)
	return c.jsonFlag(cmd)
}

func checkCerts(ctx context.Context, cl *admin.Client, r *zone.Resolver, names []string, address string) ([]checked, error) {
	if len(names) == 0 {
		all, err := cl.ListCerts(ctx)
		if err != nil {
			return nil, err
		}
		for _, x := range all {
			if len(names) == 0 || names[len(names)-1] != x.Name {
				names = append(names, x.Name)
			}
		}
	}
	var all []checked
	for _, name := range names {
		check, err := cl.CheckCert(ctx, name, address)
		if err != nil {
			return nil, err
		}
		found, err := findings(ctx, r, check.Records)
		if err != nil {
			return nil, err
		}
		check.Records = nil // they are in found
		all = append(all, checked{*check, found})
	}
	return all, nil
}

func printChecks(w io.Writer, all []checked) {
	for i, x := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		var f fields
		f.add("Name", x.Name)
		f.add("Address", x.Address)
		if !x.NotAfter.IsZero() {
			f.add("Issuer", x.Issuer)
			f.add("Not after", when(x.NotAfter))
			f.add("Public key", x.Fingerprint.String())
			f.add("ECH", yesNo(x.ECH))
		}
		state := "good"
		if len(x.Problems) > 0 {
			state = "bad"
		}
		f.add("Certificate", state)
		for _, p := range x.Problems {
			f.add("", p)
		}
		wrong := 0
		for _, d := range x.DNS {
			if d.OK {
				continue
			}
			name := ""
			if wrong++; wrong == 1 {
				name = "DNS"
			}
			f.add(name, d.state()+": "+d.Name+" "+d.Type+" "+d.Data)
		}
		if wrong == 0 && len(x.DNS) > 0 {
			f.add("DNS", "good")
		}
		f.write(w)
	}
}
