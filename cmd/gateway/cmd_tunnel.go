package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"posthorn/alpn"
	"posthorn/client"
	"posthorn/client/tunnel"
)

func (c *cli) tunnelCmd() *cobra.Command {
	var cfg ClientConfig
	var o tunnelOptions
	cmd := &cobra.Command{
		Use:   "tunnel [HOST]",
		Short: "Carry this machine's mail programs to a gateway, with a key that they need not have",
		Long: `Listen on this machine for mail programs, and carry them to a gateway by whichever
route leads there. The tunnel logs in with its own key. Programs need neither keys
nor TLS: they use localhost, port 1143 for IMAP and 1587 for submission, without
encryption, which is added before anything leaves the machine; any user name; and
the local password, which keeps the machine's other users out. It is printed when
it is made, once, and kept as a hash.

Only loopback addresses and paths of Unix sockets can be listened on. To a Unix
socket this user and root alone can connect; there no password is wanted, and IMAP
greets with PREAUTH.

What is used, or why nothing leads to the gateway, is told on standard error
whenever it changes. Without HOST, --client says what is to be known, or else
client.yaml in posthorn's directory in the user's configuration directory.`,
		Example: `  posthorn tunnel --identity me.pem mail.example.org
  posthorn tunnel --identity me.pem mail.example.org --imap ~/.mail/imap,127.0.0.1:143
  posthorn tunnel --new-password`,
		Args: c.args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.newPassword && len(args) == 0 && o.file == "" {
				return c.newTunnelPassword(&cfg.Tunnel)
			}
			if err := cfg.find(o.file, cmd, args); err != nil {
				return err
			}
			if o.newPassword {
				return c.newTunnelPassword(&cfg.Tunnel)
			}
			return c.tunnel(cmd.Context(), &cfg, &o)
		},
	}
	f := cmd.Flags()
	cfg.loginFlags(f)
	cfg.Tunnel.flags(f)
	cfg.flags(f)
	f.StringVar(&o.file, "client", "", "read from `FILE` how the gateway is reached, as in examples/client.yaml; flags count more")
	f.BoolVar(&o.newPassword, "new-password", false, "make another local password, print it, and end")
	f.BoolVar(&o.verbose, "verbose", false, "tell of every connection and route")
	return c.here(c.jsonFlag(cmd), "name the gateway: posthorn tunnel --identity FILE HOST")
}

// tunnelOptions are the flags that stand in no file.
type tunnelOptions struct {
	file                 string
	newPassword, verbose bool
}

// find completes c, which has what flags say, with the file and the HOST of a
// command line.
func (c *ClientConfig) find(file string, cmd *cobra.Command, args []string) error {
	if file == "" && len(args) == 0 {
		var err error
		if file, err = defaultClientFile(); err != nil {
			return err
		}
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			return &usageError{withHint(errors.New("no gateway is named"), "say its HOST, or --client FILE, or write %s", file)}
		}
	}
	if file != "" {
		if err := c.under(file, cmd.Flags()); err != nil {
			return err
		}
	}
	if len(args) > 0 {
		c.Host = args[0]
	}
	if c.Identity == "" && (c.User == "" || c.PasswordFile == "") {
		return &usageError{withHint(errors.New("there is nobody to log in as"),
			"--identity names the file with your key; \"posthorn key gen\" makes one; or say --user and --password-file")}
	}
	return nil
}

// stateFile is where the local password is kept.
func (c *TunnelConfig) stateFile(getenv func(string) string) (string, error) {
	if c.State != "" {
		return c.State, nil
	}
	dir := getenv("STATE_DIRECTORY") // systemd's
	if dir == "" {
		if dir = getenv("XDG_STATE_HOME"); !filepath.IsAbs(dir) {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", withHint(err, "--state says where to keep the local password")
			}
			dir = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(dir, "posthorn")
	}
	return filepath.Join(dir, "tunnel.json"), nil
}

func (c *cli) newTunnelPassword(cfg *TunnelConfig) error {
	file, err := cfg.stateFile(c.getenv)
	if err != nil {
		return err
	}
	_, text, err := tunnel.OpenPassword(file, true)
	if err != nil {
		return err
	}
	return c.tellPassword(text)
}

// tellPassword prints the password, which is nowhere else.
func (c *cli) tellPassword(text string) error {
	if c.json {
		return json.NewEncoder(c.stdout).Encode(map[string]string{"password": text})
	}
	_, err := fmt.Fprintln(c.stdout, "Local password:", text)
	return err
}

// localPassword returns what programs sign in with, and makes it at the first
// start; but a log is no place to print it.
func (c *cli) localPassword(cfg *TunnelConfig) (*tunnel.Password, error) {
	if cfg.NoLocalAuth {
		return nil, nil
	}
	file, err := cfg.stateFile(c.getenv)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) && c.getenv("JOURNAL_STREAM") != "" {
		return nil, withHint(errors.New("there is no local password yet, and it is not to be printed in a log"),
			"run: posthorn tunnel --new-password")
	}
	p, text, err := tunnel.OpenPassword(file, false)
	switch {
	case errors.Is(err, tunnel.ErrState):
		return nil, withHint(err, "posthorn tunnel --new-password makes another")
	case err != nil || text == "":
		return p, err
	}
	return p, c.tellPassword(text)
}

func (c *cli) tunnel(ctx context.Context, cfg *ClientConfig, o *tunnelOptions) error {
	if err := harden(); err != nil {
		return err
	}
	outliveReaders()
	library, err := cfg.client()
	if err == nil {
		err = cfg.remember(&library)
	}
	if err != nil {
		return &usageError{err}
	}
	level := zerolog.WarnLevel
	if o.verbose {
		level = zerolog.DebugLevel
	}
	log := newLog(c.stderr, Log{Format: "auto", Level: "debug"}).Level(level)
	library.Log = log
	s := &tunnelStatus{cli: c, states: make(map[alpn.Protocol]string)}
	password, err := c.localPassword(&cfg.Tunnel)
	if err != nil {
		return err
	}
	t, err := tunnel.New(tunnel.Config{Client: library, Password: password, Changed: s.changed, Log: log})
	if err != nil {
		return &usageError{err}
	}
	listeners, err := cfg.Tunnel.listen()
	if err != nil {
		return err
	}
	s.listening(listeners)
	return t.Run(ctx, listeners...)
}

// listen opens the local sockets.
func (c *TunnelConfig) listen() (all []*tunnel.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			all = nil
		}
	}()
	for _, on := range []struct {
		protocol  alpn.Protocol
		addresses []string
		usual     string
	}{{alpn.IMAP, c.IMAP, "localhost:1143"}, {alpn.SMTP, c.Submission, "localhost:1587"}} {
		if on.addresses == nil {
			on.addresses = []string{on.usual}
		}
		for _, address := range on.addresses {
			ls, err := tunnel.Listen(on.protocol, address)
			all = append(all, ls...)
			switch {
			case errors.Is(err, tunnel.ErrNotLoopback):
				return all, &usageError{withHint(err, "write 127.0.0.1:PORT, [::1]:PORT, localhost:PORT, or a path with a slash in it")}
			case errors.Is(err, tunnel.ErrInUse):
				return all, withHint(err, "another tunnel runs, or --imap and --submission have to name another address")
			case err != nil:
				return all, err
			}
		}
	}
	return all, nil
}

// tunnelStatus tells people, programs and systemd how the tunnel fares.
type tunnelStatus struct {
	*cli

	mu     sync.Mutex
	states map[alpn.Protocol]string // guarded by mu
}

func (s *tunnelStatus) listening(all []*tunnel.Listener) {
	for _, l := range all {
		s.tell(map[string]any{"protocol": l.Protocol, "listening": l.Addr().String()},
			fmt.Sprintf("%s: listening on %s", l.Protocol, l.Addr()))
	}
	s.notify(daemon.SdNotifyReady)
}

// changed is a tunnel.Config's Changed.
func (s *tunnelStatus) changed(state tunnel.State) {
	fields := map[string]any{"protocol": state.Protocol}
	text := ""
	if state.Route != nil {
		fields["route"], fields["address"] = state.Route.Kind, state.Route.Address
		text = "by " + state.Route.String()
	} else {
		text = whyNot(state.Err)
		fields["error"] = state.Err.Error()
	}
	s.tell(fields, string(state.Protocol)+": "+text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[state.Protocol] = string(state.Protocol) + " " + text
	s.notify("STATUS=" + strings.Join([]string{s.states[alpn.IMAP], s.states[alpn.SMTP]}, "; "))
}

// whyNot says on a line why the gateway is out of reach.
func whyNot(err error) string {
	var none *client.DialError
	if !errors.As(err, &none) {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	reasons := []string{}
	for _, e := range none.Routes {
		reasons = append(reasons, string(e.Route.Kind)+": "+e.Reason())
	}
	return "no route (" + strings.Join(reasons, "; ") + ")"
}

func (s *tunnelStatus) tell(fields map[string]any, text string) {
	if !s.json {
		fmt.Fprintln(s.stderr, harmless(text))
		return
	}
	fields["time"] = time.Now().Format(time.RFC3339)
	_ = json.NewEncoder(s.stderr).Encode(fields)
}

// notify tells systemd, if it started the tunnel.
func (s *tunnelStatus) notify(state string) {
	_, _ = daemon.SdNotify(false, harmless(state))
}
