package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"posthorn/client"
)

func (c *cli) probeCmd() *cobra.Command {
	var cfg ClientConfig
	var timeout time.Duration
	var file string
	cmd := &cobra.Command{
		Use:   "probe [HOST]",
		Short: "Find out by which routes a gateway can be reached from here",
		Long: `Try every route to a gateway, as far as its greeting, and tell which of them lead
there, how long they take, and what is in the way of the others. Nobody is logged in.
The routes are
  dedicated  port 993 or 465, with ALPN
  bare       the same without ALPN, as mail programs do
  alpn       port 443, with ALPN
  name       port 443, by a server name, without ALPN: imap.DOMAIN, smtp.DOMAIN
  ech        port 443, with ALPN, the server name encrypted
  ech-name   port 443, by a server name that is encrypted, without ALPN
  web        port 443, inside HTTPS
PLAIN says which of them a mail program can use that knows nothing of all this. The
exit code is 0 if any route leads to the gateway.`,
		Example: `  posthorn probe mail.example.org
  posthorn probe mail.example.org --proxy socks5://127.0.0.1:9050 --json
  posthorn probe localhost --port 8443 --ca server.pem --route alpn,name,web`,
		Args: c.args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				if err := cfg.under(file, cmd.Flags()); err != nil {
					return err
				}
			}
			if len(args) > 0 {
				cfg.Host = args[0]
			}
			if cfg.Timeout == 0 || cmd.Flags().Changed("timeout") {
				cfg.Timeout = Duration(timeout)
			}
			if cfg.Host == "" {
				return &usageError{withHint(errors.New("no gateway is named"), "say its HOST, or --client FILE")}
			}
			return c.probe(cmd.Context(), &cfg)
		},
	}
	cfg.flags(cmd.Flags())
	cmd.Flags().StringVar(&file, "client", "", "read from `FILE` how the gateway is reached, as in examples/client.yaml; flags count more")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "give each route so much `TIME`")
	return c.here(c.jsonFlag(cmd), "name the gateway: posthorn probe HOST")
}

func (c *cli) probe(ctx context.Context, cfg *ClientConfig) error {
	library, err := cfg.client()
	if err != nil {
		return &usageError{err}
	}
	d, err := client.New(library)
	if err != nil {
		return &usageError{err}
	}
	report, err := d.Probe(ctx, library.Routes...)
	if err != nil {
		return err
	}
	if err := c.print(report, func(w io.Writer) { printReport(w, report) }); err != nil {
		return err
	}
	if !report.Reachable() {
		return withHint(errors.New("no route leads to "+cfg.Host), "%s", probeHint(report))
	}
	return nil
}

func printReport(w io.Writer, r *client.Report) {
	var t table
	t.row("PROTOCOL", "ROUTE", "ADDRESS", "WORKS", "CONNECT", "TLS", "GREETING", "PLAIN", "WHAT CAME")
	for _, f := range r.Routes {
		came := f.Greeting
		if !f.OK {
			came = f.Reason
		}
		t.row(string(f.Protocol), string(f.Kind), f.Address, yesNo(f.OK), since(f.Connected), since(f.Secured), since(f.Greeted),
			yesNo(f.Plain), shorten(came))
	}
	t.write(w)
	fmt.Fprintln(w)
	var f fields
	if proxy := r.Routes[0].Proxy; proxy != "" {
		f.add("Proxy", proxy)
	}
	if c := r.Certificate; c != nil {
		f.add("Certificate", strings.Join(c.Names, ", "))
		f.add("", "from "+c.Issuer+", until "+when(c.NotAfter))
		f.add("", "key "+c.Key.String())
		if !c.Verified {
			f.add("", "NOT VALID: "+c.Reason)
		}
	}
	f.add("ALPN", strings.TrimSpace(string(r.ALPN.State)+" "+r.ALPN.Reason))
	f.add("ECH", echText(&r.ECH))
	f.write(w)
}

// since formats when a step was done.
func since(ms int64) string {
	if ms == 0 {
		return ""
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

// shorten cuts what stands last in a line.
func shorten(s string) string {
	const most = 72
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

func echText(e *client.ECHFinding) string {
	switch {
	case e.Accepted:
		return "accepted; observers see " + e.PublicName
	case e.Found:
		return "not accepted; observers see " + e.PublicName
	}
	return "none: " + cmp.Or(e.Reason, "no configuration is published")
}

// probeHint guesses what is in the way.
func probeHint(r *client.Report) string {
	classes := make(map[client.Class]int)
	for _, f := range r.Routes {
		classes[f.Class]++
	}
	switch {
	case classes[client.HTTP] > 0:
		return "an HTTP server answers in place of the gateway: log in to this network first, or it blocks mail"
	case classes[client.Certificate] > 0:
		return "the certificate is not one that is trusted for the gateway: somebody inspects the connections, or --ca has to name its CA"
	case classes[client.ProxyFault] > 0:
		return "the proxy refuses: --proxy takes user and password as http://USER:PASSWORD@HOST:PORT"
	case classes[client.Unresolved] == len(r.Routes):
		return "the name is not known here; --address says where the gateway is"
	}
	return "the table says what became of each route"
}
