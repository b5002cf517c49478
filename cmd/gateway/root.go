package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"posthorn/admin"
)

// cli is the command line of one process: what every command shares.
type cli struct {
	*env
	configFile string // --config
	dataDir    string // --data
	socketPath string // --socket
	json       bool   // --json
	remote     remote // --server and what goes with it
}

// configEnv names the environment variable that stands in for --config.
const configEnv = "POSTHORN_CONFIG"

func newRoot(e *env) *cobra.Command {
	c := &cli{env: e}
	root := &cobra.Command{
		Use:   "posthorn",
		Short: "A mail gateway for port 443: IMAP, submission and HTTPS on one TLS port, keys log in",
		Long: `Posthorn is a mail gateway for port 443. One TLS port speaks IMAP, submission and
HTTPS; a client's public key, or a password, says whose mail it is.

"posthorn serve" runs the gateway. The commands that administer it talk to the running
gateway over its admin socket, which they find as the gateway itself did: --socket, or
the admin.socket of the configuration file, or admin.sock in the data directory. The
configuration file is --config, or $` + configEnv + `; when neither is given, none
is read. A gateway elsewhere, where admin.host is configured, is asked with --server, by
the key of an operator (--key) or with a token (--token-file); its certificate is
always verified. Commands that ask no gateway elsewhere refuse these.

Three commands are for the other end: probe, tunnel and sendmail.

Results go to standard output, everything else to standard error; the exit code is 0,
1 for an error, 2 for a command line that cannot be understood. sendmail has its own.`,
		Example: `  posthorn serve
  posthorn account add alice@localhost
  posthorn key gen --for alice@localhost --out alice
  posthorn key add alice@localhost < alice.pem`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("posthorn {{.Version}}\n")
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return c.flagError(cmd, err) })
	f := root.PersistentFlags()
	f.StringVar(&c.configFile, "config", "", "read the configuration `FILE` (default $"+configEnv+", or none)")
	f.StringVar(&c.dataDir, "data", "", "use the data directory `DIR`, whatever the configuration says")
	f.StringVar(&c.socketPath, "socket", "", "use the admin socket `PATH`, whatever the configuration says")
	c.remote.flags(f)
	root.AddCommand(c.serveCmd(), c.statusCmd(), c.accountCmd(), c.keyCmd(), c.connCmd(), c.certCmd(), c.echCmd(), c.dnsCmd(),
		c.sessionCmd(), c.passkeyCmd(), c.backendCmd(), c.blockCmd(), c.tokenCmd(), c.auditCmd(), c.probeCmd(), c.tunnelCmd(), c.sendmailCmd(),
		c.backupCmd(), c.restoreCmd(), c.configCmd(), c.versionCmd())
	root.CompletionOptions.HiddenDefaultCmd = true
	c.group(root)
	return root
}

// group makes a command of commands: without one it shows its help, and with
// an unknown one it is a usage error.
func (c *cli) group(cmd *cobra.Command, sub ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(sub...)
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		hint := fmt.Sprintf("%s --help lists the commands", cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "is " + near[0] + " meant?"
		}
		return &usageError{withHint(fmt.Errorf("%q is not a command of %s", args[0], cmd.CommandPath()), "%s", hint)}
	}
	cmd.SuggestionsMinimumDistance = 2
	return cmd
}

// args checks that a command has from least to most arguments.
func (c *cli) args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		var err error
		switch {
		case len(args) < least:
			err = fmt.Errorf("%s wants more arguments", cmd.CommandPath())
		case len(args) > most:
			err = fmt.Errorf("%s does not know what to do with %q", cmd.CommandPath(), args[most])
		default:
			return nil
		}
		return &usageError{withHint(err, "usage: %s", cmd.UseLine())}
	}
}

// bareFingerprint is a fingerprint without its prefix that looks like a flag.
var bareFingerprint = regexp.MustCompile(`^-[A-Za-z0-9_+/-]{42}=?$`)

func (c *cli) flagError(cmd *cobra.Command, err error) error {
	for _, arg := range c.env.args[1:] {
		if bareFingerprint.MatchString(arg) {
			return &usageError{withHint(fmt.Errorf("%q is not a flag, and not a fingerprint as it stands", arg),
				"fingerprints begin with SHA256: – write SHA256:%s", arg)}
		}
	}
	return &usageError{withHint(err, "%s --help lists the flags", cmd.CommandPath())}
}

// exclusive has a command refuse two flags together. (What cobra says of them is
// no usage error, and hard to read.)
func exclusive(cmd *cobra.Command, one, other string) {
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed(one) || !cmd.Flags().Changed(other) {
			return nil
		}
		return &usageError{withHint(fmt.Errorf("--%s and --%s exclude each other", one, other), "%s --help lists the flags", cmd.CommandPath())}
	}
}

// jsonFlag gives a command --json.
func (c *cli) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

// config returns the configuration that the flags and the environment name.
func (c *cli) config() (*Config, error) { return c.configBy(loadConfig) }

func (c *cli) configBy(load func(file string) (*Config, error)) (*Config, error) {
	cfg := defaultConfig()
	if file := c.configPath(); file != "" {
		var err error
		if cfg, err = load(file); err != nil && c.configFile == "" && hintOf(err) == "" {
			err = withHint(err, "$%s names it", configEnv)
		}
		if err != nil {
			return nil, err
		}
	}
	if c.dataDir != "" {
		cfg.DataDir = c.dataDir
	}
	if c.socketPath != "" {
		cfg.Admin.Socket = c.socketPath
	}
	return cfg, nil
}

func (c *cli) configPath() string {
	if c.configFile != "" {
		return c.configFile
	}
	return c.getenv(configEnv)
}

// withClient calls do with a client of the running gateway.
func (c *cli) withClient(ctx context.Context, do func(context.Context, *admin.Client) error) error {
	if r, elsewhere, err := c.remoteGateway(); err != nil || elsewhere {
		if err != nil {
			return err
		}
		return r.do(ctx, do)
	}
	socket := c.socketPath
	if socket == "" {
		cfg, err := c.config()
		if err != nil {
			return err
		}
		socket = cfg.socket()
	}
	client := admin.NewClient(socket)
	defer client.Close()
	return c.dialError(socket, do(ctx, client))
}

// dialError explains why the gateway could not be reached.
func (c *cli) dialError(socket string, err error) error {
	if op := (*net.OpError)(nil); !errors.As(err, &op) || op.Op != "dial" {
		return err
	}
	why := fmt.Errorf("the gateway does not answer on %s", socket)
	switch {
	case errors.Is(err, os.ErrPermission):
		return withHint(fmt.Errorf("%s may not be opened: %w", socket, os.ErrPermission),
			"run the command with sudo, or as the gateway's user")
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return withHint(why, "start it with: %s serve\nor say where it is, with --config, --data or --socket", c.invocation())
	}
	return fmt.Errorf("%w: %w", why, err)
}

// invocation is how the user started this program, ready to be pasted: with
// the flags that say which gateway is meant.
func (c *cli) invocation() string {
	words := []string{programName(c.env.args[0])}
	for _, f := range []struct{ name, value string }{
		{"--config", c.configFile}, {"--data", c.dataDir}, {"--socket", c.socketPath},
	} {
		if f.value != "" {
			words = append(words, f.name, quote(f.value))
		}
	}
	return strings.Join(words, " ")
}

// programName returns what to type to start the program again. Under "go run"
// the program is in a directory that is deleted afterwards.
func programName(arg0 string) string {
	if !strings.Contains(arg0, "/go-build") {
		return quote(arg0)
	}
	if _, err := os.Stat("cmd/gateway/main.go"); err == nil {
		return "go run ./cmd/gateway"
	}
	return "go run posthorn/cmd/gateway"
}

// quote quotes a word for a shell, if it needs to be.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
