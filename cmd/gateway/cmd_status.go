package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"posthorn/admin"
	"posthorn/alpn"
)

func (c *cli) statusCmd() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the running gateway is",
		Example: `  posthorn status
  posthorn status --wait 10s                                   # until it serves
  posthorn status --json | jq -r '.listeners[] | select(.name == "shared").address'`,
		Args: c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				st, err := waitStatus(ctx, cl, wait)
				if err != nil {
					return err
				}
				return c.print(st, func(w io.Writer) { printStatus(w, st) })
			})
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long for the gateway to serve")
	return c.jsonFlag(cmd)
}

// errNotServing says that waiting was in vain.
var errNotServing = errors.New("the gateway is not serving")

// waitStatus returns the gateway's status; when wait is set, once it serves. One
// that hangs is waited for no longer than one that is not there.
func waitStatus(ctx context.Context, cl *admin.Client, wait time.Duration) (*admin.Status, error) {
	if wait == 0 {
		return cl.Status(ctx)
	}
	late := fmt.Errorf("%w: it does not answer", errNotServing)
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errNotServing)
	defer cancel()
	for {
		st, err := cl.Status(ctx)
		switch {
		case err == nil && st.State == admin.Serving.String():
			return st, nil
		case ctx.Err() != nil:
		case err == nil:
			late = fmt.Errorf("%w: it is %s", errNotServing, st.State)
		default:
			late = err
		}
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, errNotServing) {
				return nil, cause
			}
			return nil, late
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func printStatus(w io.Writer, st *admin.Status) {
	var f fields
	f.add("State", st.State)
	f.add("Version", st.Version)
	f.add("PID", fmt.Sprint(st.PID))
	f.add("Started", when(st.Started))
	if st.Config != "" {
		f.add("Configuration", st.Config)
	}
	f.add("Data", st.DataDir)
	for i, l := range byName(st.Listeners) {
		name := ""
		if i == 0 {
			name = "Listening"
		}
		f.add(name, l.Name+" "+l.Address)
	}
	if cert := st.Certificate; cert != nil {
		f.add("Certificate", cert.Fingerprint.String())
		f.add("", "for "+strings.Join(cert.Names, ", "))
		f.add("", "until "+when(cert.Expires))
	} else {
		f.add("Certificate", "none yet: the CA has not issued one")
	}
	f.add("Connections", connCounts(st.Conns))
	if n := st.Backends; n.Total > 0 {
		f.add("Backends", fmt.Sprintf("%d of %s up", n.Up, plural(n.Total, "address", "addresses")))
	}
	f.write(w)
}

// byName joins the addresses of the listeners that have the same name.
func byName(all []admin.Listener) (joined []admin.Listener) {
	for _, l := range all {
		if last := len(joined) - 1; last >= 0 && joined[last].Name == l.Name {
			joined[last].Address += ", " + l.Address
			continue
		}
		joined = append(joined, l)
	}
	return joined
}

func connCounts(n admin.ConnCounts) string {
	s := fmt.Sprintf("%d, %d logged in", n.Total, n.LoggedIn)
	for _, p := range []alpn.Protocol{alpn.IMAP, alpn.SMTP, alpn.HTTP2, alpn.HTTP1} {
		if n.ByProtocol[p] > 0 {
			s += fmt.Sprintf(", %d %s", n.ByProtocol[p], p)
		}
	}
	return s
}

func (c *cli) auditCmd() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "audit",
		Short:   "Show who administered what",
		Long:    "Show the audit trail, oldest first; with --json also from where, and what was before and\nafter. The gateway keeps the last 10,000 entries; what people do for themselves on the\naccount pages has at most half of them.",
		Example: "  posthorn audit --limit 100\n  posthorn audit --limit 0 --json",
		Args:    c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return &usageError{errors.New("--limit must not be negative")}
			}
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				events, err := cl.Audit(ctx, limit)
				if err != nil {
					return err
				}
				return c.print(events, func(w io.Writer) { auditTable(events).write(w) })
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "show the last `N`; 0: all")
	return c.jsonFlag(cmd)
}

func auditTable(events []admin.Event) table {
	var t table
	t.row("TIME", "ACTOR", "ACTION", "ADDRESS", "KEY", "DETAIL", "ERROR")
	for _, e := range events {
		t.row(e.Time.Local().Format(time.DateTime), e.Actor, e.Action, e.Address, e.Key, e.Detail, e.Error)
	}
	return t
}

func (c *cli) versionCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  posthorn version",
		Args:    c.args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			v := version()
			return c.print(map[string]string{"version": v}, func(w io.Writer) { fmt.Fprintln(w, "posthorn", v) })
		},
	}
	return c.here(c.jsonFlag(cmd), "status shows the version of a gateway")
}

// version is the module's version, or the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
