package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"posthorn/accounts"
	"posthorn/admin"
)

func (c *cli) blockCmd() *cobra.Command {
	block := &cobra.Command{
		Use:   "block",
		Short: "See and lift blocks for wrong passwords",
		Long: `A source that sends too many wrong passwords (limits.password_failures) is blocked
for a while: an IPv4 address, an IPv6 /64, or, when a known key was shown, that key.
Keys log in from a blocked source all the same.`,
	}
	return c.group(block, c.blockListCmd(), c.blockRemoveCmd())
}

func (c *cli) blockListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the blocked sources",
		Example: "  posthorn block list",
		Args:    c.args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				blocks, err := cl.ListBlocks(ctx)
				if err != nil {
					return err
				}
				return c.print(blocks, func(w io.Writer) { blockTable(blocks).write(w) })
			})
		},
	}
	return c.jsonFlag(cmd)
}

func blockTable(blocks []accounts.Block) table {
	var t table
	t.row("SOURCE", "UNTIL", "TIMES")
	for _, b := range blocks {
		t.row(b.Source, when(b.Until), fmt.Sprint(b.Count))
	}
	return t
}

func (c *cli) blockRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "remove SOURCE",
		Short:   "Lift a block and forget the source's wrong passwords",
		Example: "  posthorn block remove 192.0.2.7\n  posthorn block remove 2001:db8:1:2::/64",
		Args:    c.args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), func(ctx context.Context, cl *admin.Client) error {
				if err := cl.RemoveBlock(ctx, args[0]); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "unblocked %s\n", args[0])
				return nil
			})
		},
	}
}
