package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"posthorn/admin"
)

// remote says which gateway is asked, when it is not the one of this machine.
type remote struct {
	server    string // --server
	keyFile   string // --key
	tokenFile string // --token-file
	caFile    string // --ca
}

// The environment variables that stand in for the flags.
const (
	serverEnv = "POSTHORN_SERVER"
	keyEnv    = "POSTHORN_KEY"
	tokenEnv  = "POSTHORN_TOKEN_FILE"
	caEnv     = "POSTHORN_CA"
)

func (r *remote) flags(f *pflag.FlagSet) {
	f.StringVar(&r.server, "server", "", "ask the gateway at `URL`, https://ADMIN-HOST[:PORT], over the network (default $"+serverEnv+")")
	f.StringVar(&r.keyFile, "key", "", "with --server: be the operator whose certificate and private key `FILE` holds (default $"+keyEnv+")")
	f.StringVar(&r.tokenFile, "token-file", "", "with --server: show the token in `FILE` (default $"+tokenEnv+")")
	f.StringVar(&r.caFile, "ca", "", "with --server: believe the certificates in `FILE`, not the system's CAs (default $"+caEnv+")")
}

// remote returns which other gateway is asked; false: the one of this machine.
// Flags that name the latter count more than the environment.
func (c *cli) remoteGateway() (remote, bool, error) {
	r := c.remote
	local := c.configFile != "" || c.dataDir != "" || c.socketPath != ""
	switch {
	case r.server != "" && local:
		return r, false, &usageError{withHint(errors.New("--server names another gateway than --config, --data and --socket"), "leave out one or the others")}
	case r.server == "" && (r.keyFile != "" || r.tokenFile != "" || r.caFile != "") && c.getenv(serverEnv) == "":
		return r, false, &usageError{withHint(errors.New("--key, --token-file and --ca are for --server"), "say which gateway: --server https://admin.example.org")}
	case r.server == "" && local:
		return r, false, nil
	}
	if r.server == "" {
		r.server = c.getenv(serverEnv)
	}
	if r.keyFile == "" && r.tokenFile == "" {
		r.keyFile, r.tokenFile = c.getenv(keyEnv), c.getenv(tokenEnv)
	}
	if r.caFile == "" {
		r.caFile = c.getenv(caEnv)
	}
	return r, r.server != "", nil
}

// client returns a client of the gateway. Its certificate is verified, whatever
// the flags say.
func (r remote) client() (*admin.Client, error) {
	if (r.keyFile == "") == (r.tokenFile == "") {
		return nil, &usageError{withHint(errors.New("--server wants either a key or a token"), "--key FILE or --token-file FILE")}
	}
	to := admin.Remote{URL: r.server, TLS: &tls.Config{MinVersion: tls.VersionTLS12}}
	if r.caFile != "" {
		text, err := os.ReadFile(r.caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		to.TLS.RootCAs = x509.NewCertPool()
		if !to.TLS.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca: %s holds no certificate", r.caFile)
		}
	}
	if r.keyFile != "" {
		pair, err := tls.LoadX509KeyPair(r.keyFile, r.keyFile)
		if err != nil {
			return nil, withHint(fmt.Errorf("--key: %w", err), "the file must hold a certificate and its private key in PEM, as \"posthorn key gen\" writes them")
		}
		// The server names no CAs, and the key is meant for it alone.
		to.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	if r.tokenFile != "" {
		text, err := readSecret(r.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		to.Token = strings.TrimSpace(text)
	}
	cl, err := admin.NewRemoteClient(to)
	if err != nil {
		return nil, &usageError{err}
	}
	return cl, nil
}

// do calls do with a client of the gateway.
func (r remote) do(ctx context.Context, do func(context.Context, *admin.Client) error) error {
	cl, err := r.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	return r.explain(do(ctx, cl))
}

// explain says why the gateway could not be asked.
func (r remote) explain(err error) error {
	var (
		unknown x509.UnknownAuthorityError
		other   x509.HostnameError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &unknown):
		return withHint(fmt.Errorf("%s: %w", r.server, err), "--ca FILE names what to believe in place of the system's CAs")
	case errors.As(err, &other), errors.Is(err, admin.ErrNoAPI):
		return withHint(fmt.Errorf("%s: %w", r.server, err), "--server wants the host name that admin.host is there")
	case errors.As(err, &op):
		return fmt.Errorf("%s cannot be asked: %w", r.server, err)
	}
	return err
}

// here has a command refuse what says which gateway elsewhere to ask, since it asks
// none; instead says what to do.
func (c *cli) here(cmd *cobra.Command, instead string) *cobra.Command {
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if c.remote == (remote{}) {
			return nil
		}
		err := fmt.Errorf("%s asks no gateway elsewhere: it takes no --server, nor what goes with it", cmd.CommandPath())
		return &usageError{withHint(err, "%s", instead)}
	}
	return cmd
}
