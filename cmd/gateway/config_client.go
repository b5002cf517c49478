package main

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"posthorn/authkeys"
	"posthorn/client"
)

// ClientConfig is how the commands at the other end reach a gateway, and who logs
// in there. It is a file of its own, since those who use them have no gateway.
type ClientConfig struct {
	// Host is the gateway's name.
	Host string `yaml:"host"`
	// Address is where to connect to, in place of Host.
	Address string `yaml:"address"`
	// Ports of the gateway, where they are not the usual ones.
	Ports struct {
		Shared      uint16 `yaml:"shared"`
		IMAPS       uint16 `yaml:"imaps"`
		Submissions uint16 `yaml:"submissions"`
	} `yaml:"ports"`
	// Names are the server names that lead to each protocol without ALPN.
	Names struct {
		IMAP       string `yaml:"imap"`
		Submission string `yaml:"submission"`
	} `yaml:"names"`

	// Identity is the file with the key that logs in; PassphraseFile has its
	// passphrase.
	Identity       string `yaml:"identity"`
	PassphraseFile string `yaml:"passphrase_file"`
	// User logs in with the password in PasswordFile.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`

	// Routes are what is tried, in this order.
	Routes []string `yaml:"routes"`
	// InOrder tries them one after the other, without a race.
	InOrder bool `yaml:"in_order"`
	// Timeout bounds each route.
	Timeout Duration `yaml:"timeout"`
	// Proxy is in front; "none": none, whatever the environment says.
	Proxy string `yaml:"proxy"`
	// CA is a file with the certificates that are trusted in place of the system's.
	CA string `yaml:"ca"`
	// Pins are fingerprints of keys one of which the gateway must have as well.
	Pins []string `yaml:"pins"`
	// ECH is the gateway's ECHConfigList in base64.
	ECH string `yaml:"ech"`
	// Resolver is asked for it, where it is not given.
	Resolver string `yaml:"resolver"`
	// WebPath is where the gateway has the web transport.
	WebPath string `yaml:"web_path"`
	// Memory is the file that keeps which route worked in which network; "none":
	// there is none.
	Memory string `yaml:"memory"`

	// Tunnel is for "posthorn tunnel" alone.
	Tunnel TunnelConfig `yaml:"tunnel"`
}

// flags are those that say how to reach a gateway.
func (c *ClientConfig) flags(f *pflag.FlagSet) {
	f.StringVar(&c.Address, "address", "", "connect to `ADDRESS`, a name or an IP address, in place of HOST")
	f.Uint16Var(&c.Ports.Shared, "port", 0, "the `PORT` of every protocol (default 443)")
	f.Uint16Var(&c.Ports.IMAPS, "imaps-port", 0, "the `PORT` of IMAP alone (default 993)")
	f.Uint16Var(&c.Ports.Submissions, "submissions-port", 0, "the `PORT` of submission alone (default 465)")
	f.StringVar(&c.Names.IMAP, "imap-name", "", "the server `NAME` that leads to IMAP without ALPN (default imap.DOMAIN)")
	f.StringVar(&c.Names.Submission, "submission-name", "", "the server `NAME` that leads to submission without ALPN (default smtp.DOMAIN)")
	f.StringSliceVar(&c.Routes, "route", nil, "only these `ROUTES`, with commas between them: "+routeNames())
	f.StringVar(&c.Proxy, "proxy", "", "go through the proxy `URL` (http, https, socks5), or none (default what HTTPS_PROXY, ALL_PROXY and NO_PROXY say)")
	f.StringVar(&c.CA, "ca", "", "trust the certificates in `FILE` in place of the system's")
	f.StringSliceVar(&c.Pins, "pin", nil, "want one of the keys with these `FINGERPRINTS` in the gateway's chain as well")
	f.StringVar(&c.ECH, "ech", "", "use this ECHConfigList, in `BASE64`, in place of looking it up")
	f.StringVar(&c.Resolver, "resolver", "", "ask the DNS resolver `ADDRESS[:PORT]` for it (default that of /etc/resolv.conf)")
	f.StringVar(&c.WebPath, "web-path", "", "the `PATH` of the web transport (default /.well-known/posthorn)")
}

// loginFlags are those that say who logs in.
func (c *ClientConfig) loginFlags(f *pflag.FlagSet) {
	f.StringVar(&c.Identity, "identity", "", "log in with the key in `FILE`: a .pem, a .p12, an OpenSSH private key, or a seed")
	f.StringVar(&c.PassphraseFile, "passphrase-file", "", "read the key's passphrase from `FILE`")
	f.StringVar(&c.User, "user", "", "log in as `ADDRESS`, with the password in --password-file")
	f.StringVar(&c.PasswordFile, "password-file", "", "read the password from the first line of `FILE`")
	f.StringVar(&c.Memory, "memory", "", "keep in `FILE` which route worked in which network, or none (default in the user's cache directory)")
}

// defaultClientFile is where the configuration is looked for when neither it nor
// a gateway is named: in the user's configuration directory.
func defaultClientFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "posthorn", "client.yaml"), nil
}

// remember gives out the memory that c names.
func (c *ClientConfig) remember(out *client.Config) error {
	file := c.Memory
	switch file {
	case "none":
		return nil
	case "":
		var err error
		if file, err = client.DefaultMemory(); err != nil {
			return withHint(err, "--memory says where to keep which routes work, or none")
		}
	}
	out.Memory = client.NewMemory(file)
	return nil
}

func routeNames() string {
	var names []string
	for _, k := range client.AllRoutes() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// under reads a file, and puts the flags that were given over it.
func (c *ClientConfig) under(file string, given *pflag.FlagSet) error {
	var merged ClientConfig
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	merged.flags(flags)
	merged.loginFlags(flags)
	merged.Tunnel.flags(flags)
	if err := loadClientConfig(file, &merged); err != nil {
		return err
	}
	var failed error
	given.Visit(func(f *pflag.Flag) {
		to := flags.Lookup(f.Name)
		if to == nil {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			failed = errors.Join(failed, to.Value.(pflag.SliceValue).Replace(list.GetSlice()))
			return
		}
		failed = errors.Join(failed, to.Value.Set(f.Value.String()))
	})
	*c = merged
	return failed
}

// loadClientConfig reads a file over c. Paths in it are relative to the file.
func loadClientConfig(file string, c *ClientConfig) error { return loadClientFile(file, c, c) }

// loadClientFile reads a file over whole, a pointer to what c is a part of.
func loadClientFile(file string, whole any, c *ClientConfig) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	root, mistakes := parseTree(data)
	if root != nil {
		mistakes = checkKeys(root, reflect.TypeOf(whole).Elem(), "")
		mistakes = append(mistakes, mistakesOf(root.Decode(whole))...)
	}
	if mistakes = byLine(mistakes); len(mistakes) > 0 {
		return &MistakesError{file, mistakes}
	}
	for _, path := range []*string{&c.Identity, &c.PassphraseFile, &c.PasswordFile, &c.CA, &c.Memory} {
		if *path == "none" && path == &c.Memory {
			continue
		}
		if *path, err = beside(file, *path); err != nil {
			return err
		}
	}
	c.Tunnel.beside(filepath.Dir(file))
	return nil
}

// beside is a path that stands in a file: ~/ is the home of whoever reads it, and
// what is relative is beside the file.
func beside(file, path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := homeDir()
		return filepath.Join(home, rest), err
	}
	if path == "" || filepath.IsAbs(path) {
		return path, nil
	}
	return filepath.Join(filepath.Dir(file), path), nil
}

// homeDir is the user's home. Services of the system have it in no variable.
func homeDir() (string, error) {
	home, err := os.UserHomeDir()
	if err == nil {
		return home, nil
	}
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		return u.HomeDir, nil
	}
	return "", err
}

// client returns c as the library takes it, with the files that it names read.
func (c *ClientConfig) client() (_ client.Config, err error) {
	out := client.Config{
		Host: c.Host, Address: c.Address, User: c.User, InOrder: c.InOrder, Timeout: time.Duration(c.Timeout), WebPath: c.WebPath,
		Ports: client.Ports{Shared: c.Ports.Shared, IMAPS: c.Ports.IMAPS, Submissions: c.Ports.Submissions},
		Names: client.Names{IMAP: c.Names.IMAP, Submission: c.Names.Submission},
	}
	for _, name := range c.Routes {
		out.Routes = append(out.Routes, client.Kind(name))
	}
	for _, pin := range c.Pins {
		f, err := authkeys.ParseFingerprint(pin)
		if err != nil {
			return out, fmt.Errorf("%q is %w", pin, err)
		}
		out.Pins = append(out.Pins, f)
	}
	if c.Proxy != "" {
		u, err := client.ParseProxy(c.Proxy)
		if err != nil {
			return out, err
		}
		out.Proxy = client.FixedProxy(u)
	}
	if c.ECH != "" {
		if out.ECHConfigList, err = base64.StdEncoding.DecodeString(c.ECH); err != nil {
			return out, errors.New("the ECHConfigList is no base64")
		}
	}
	if c.Resolver != "" {
		r, err := findResolver(c.Resolver)
		if err != nil {
			return out, err
		}
		out.Resolver = r.Server
	}
	return out, c.readFiles(&out)
}

// readFiles reads what stands in files of its own.
func (c *ClientConfig) readFiles(out *client.Config) error {
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return err
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("%s: there is no certificate in it", c.CA)
		}
	}
	if c.PasswordFile != "" {
		password, err := readSecret(c.PasswordFile)
		if err != nil {
			return err
		}
		out.Password = client.Secret(password)
	}
	if c.Identity == "" {
		return nil
	}
	passphrase := ""
	if c.PassphraseFile != "" {
		var err error
		if passphrase, err = readSecret(c.PassphraseFile); err != nil {
			return err
		}
	}
	identity, err := client.LoadIdentity(c.Identity, passphrase)
	out.Identity = identity
	return err
}
