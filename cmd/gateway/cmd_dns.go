package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"posthorn/admin"
	"posthorn/certs/zone"
)

func (c *cli) echCmd() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "ech",
		Short: "Show what to publish for Encrypted Client Hello",
	}, c.echShowCmd())
}

func (c *cli) echShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the ECHConfigList and the DNS records that tell of it",
		Long: `Print the ECHConfigList that clients need to hide which server name and protocol they
ask for, and the HTTPS and SVCB records to publish. The key changes every 30 days, and
each is accepted for 90: publish the records anew every month. A program that keeps the
zone finds the same at https://NAME/.well-known/origin-svcb.`,
		Example: "  posthorn ech show\n  posthorn ech show --json | jq -r .config_list",
		Args:    c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				e, err := cl.ShowECH(ctx)
				if err != nil {
					return err
				}
				return c.print(e, func(w io.Writer) {
					fmt.Fprintf(w, "; Observers see the name %s. ECHConfigList:\n; %s\n", e.PublicName, base64.StdEncoding.EncodeToString(e.ConfigList))
					printRecords(w, e.Records)
				})
			})
		},
	}
	return c.jsonFlag(cmd)
}

func (c *cli) dnsCmd() *cobra.Command {
	var (
		check    bool
		resolver string
	)
	cmd := &cobra.Command{
		Use:   "dns DOMAIN",
		Short: "Print the DNS records that a mail domain wants",
		Long: `Print every DNS record that a mail domain wants, as lines of a zone file: where the
server names are, how mail programs find them (SRV), what is spoken there and with which
ECH keys (HTTPS, SVCB), which keys the certificates have (TLSA, of use where the zone is
signed), and which CA may issue (CAA). With --check, compare them with what resolves,
and exit with 1 if one is not there.`,
		Example: "  posthorn dns example.org\n  posthorn dns example.org --check --resolver 9.9.9.9",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				records, err := cl.Records(ctx, args[0])
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(records, func(r admin.Record) bool { return r.Type == "A" || r.Type == "AAAA" }) {
					fmt.Fprintln(c.stderr, "The gateway's public addresses are not known: public_addresses in the configuration names them.")
				}
				if !check {
					return c.print(records, func(w io.Writer) { printRecords(w, records) })
				}
				r, err := findResolver(resolver)
				if err != nil {
					return err
				}
				return c.checkRecords(ctx, r, records)
			})
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "compare the records with what resolves")
	resolverFlag(cmd, &resolver)
	return c.jsonFlag(cmd)
}

// printRecords prints records as a part of a zone file.
func printRecords(w io.Writer, records []admin.Record) {
	why := ""
	for _, r := range records {
		if r.Why != why {
			why = r.Why
			fmt.Fprintf(w, "\n; %s\n", why)
		}
		fmt.Fprintln(w, r)
	}
}

func resolverFlag(cmd *cobra.Command, server *string) {
	cmd.Flags().StringVar(server, "resolver", "", "ask the DNS resolver `ADDRESS[:PORT]` (default that of /etc/resolv.conf)")
}

func findResolver(server string) (*zone.Resolver, error) {
	if server == "" {
		r, err := zone.System()
		if err != nil {
			return nil, withHint(err, "name one with --resolver")
		}
		return r, nil
	}
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(strings.Trim(server, "[]"), "53")
	}
	return &zone.Resolver{Server: server}, nil
}

// finding is a record beside what resolves.
type finding struct {
	admin.Record
	OK    bool     `json:"ok"`
	Found []string `json:"found,omitempty"` // the data of that name and type
	Error string   `json:"error,omitempty"` // why it could not be told
}

// state says in a word what is with the record.
func (f *finding) state() string {
	switch {
	case f.OK:
		return "ok"
	case f.Error != "":
		return "unknown"
	case len(f.Found) > 0:
		return "different"
	}
	return "missing"
}

// dnsTimeout bounds how long records are looked up.
const dnsTimeout = 30 * time.Second

func findings(ctx context.Context, r *zone.Resolver, records []admin.Record) (all []finding, err error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	found, err := r.Check(ctx, records)
	for _, f := range found {
		x := finding{Record: f.Record, OK: f.OK, Found: f.Found}
		if f.Err != nil {
			x.Error = f.Err.Error()
		}
		all = append(all, x)
	}
	return all, err
}

func (c *cli) checkRecords(ctx context.Context, r *zone.Resolver, records []admin.Record) error {
	all, err := findings(ctx, r, records)
	if err != nil {
		return err
	}
	wrong, unknown := 0, 0
	var t table
	t.row("STATE", "NAME", "TYPE", "WANTED", "FOUND")
	for _, f := range all {
		found := ""
		switch {
		case f.OK:
		case f.Error != "":
			unknown++
			found = f.Error
		default:
			wrong++
			found = strings.Join(f.Found, " | ")
		}
		t.row(f.state(), f.Name, f.Type, f.Data, found)
	}
	if err := c.print(all, t.write); err != nil {
		return err
	}
	switch total := plural(len(all), "record", "records"); {
	case wrong > 0:
		return withHint(fmt.Errorf("%d of %s are not there", wrong, total),
			"put them into the zone; TLSA records are of use only where it is signed (DNSSEC)")
	case unknown > 0:
		return withHint(fmt.Errorf("%d of %s could not be looked up", unknown, total), "ask another resolver with --resolver")
	}
	return nil
}
