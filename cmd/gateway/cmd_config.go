package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

func (c *cli) configCmd() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "config",
		Short: "Check a configuration file",
	}, c.configCheckCmd(), c.configShowCmd())
}

func (c *cli) configCheckCmd() *cobra.Command {
	return c.here(&cobra.Command{
		Use:   "check FILE",
		Short: "Report everything that is wrong with a configuration file",
		Long: `Report everything that is wrong with a configuration file, with line numbers, and
exit with 1 if there is anything. The secrets, CAs and folders of files that it names must be
there and readable for whoever asks. Nothing else is looked at: neither whether the
certificates are there, nor whether the addresses are free or anybody answers.`,
		Example: "  posthorn config check /etc/posthorn/config.yaml",
		Args:    c.args(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := loadForServing(args[0])
			if err != nil {
				return err
			}
			for _, w := range cfg.warnings(time.Now()) {
				fmt.Fprintf(c.stderr, "%s: %s\n", args[0], w)
			}
			fmt.Fprintf(c.stderr, "%s: no mistakes\n", args[0])
			return nil
		},
	}, "run it on the machine whose configuration it is")
}

func (c *cli) configShowCmd() *cobra.Command {
	return c.here(&cobra.Command{
		Use:     "show",
		Short:   "Print the configuration with all its defaults",
		Example: "  posthorn config show\n  posthorn config show --config /etc/posthorn/config.yaml",
		Args:    c.args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := c.config()
			if err != nil {
				return err
			}
			b, err := yaml.Dump(cfg)
			if err != nil {
				return err
			}
			_, err = c.stdout.Write(b)
			return err
		},
	}, "run it on the machine whose configuration it is")
}
