package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/client"
)

// keyGen is one run of "key gen".
type keyGen struct {
	owner   string // --for
	out     string
	typ     string
	force   bool
	legacy  bool
	openssh bool
	seed    bool
}

func (c *cli) keyGenCmd() *cobra.Command {
	var g keyGen
	cmd := &cobra.Command{
		Use:   "gen --out NAME",
		Short: "Make a key pair for a device, here, without asking the gateway",
		Long: `Make a private key and a self-signed certificate for it, and write
  NAME.key  the private key,
  NAME.crt  the certificate,
  NAME.pem  both in one file, and
  NAME.p12  both for programs that import them, under the passphrase that is printed;
with --openssh also
  NAME.openssh  the private key as ssh-keygen writes it, without a passphrase, and
  NAME.pub      the public key in one line, which "key add" takes as well;
with --seed also
  NAME.seed     the 32 octets that an Ed25519 key is made from, in base64url;
all readable by you only. The gateway looks at nothing in the certificate but its
public key, so it never expires there.`,
		Example: `  posthorn key gen --for alice@example.org --out alice
  posthorn key gen --for alice@example.org --out alice-phone --type ed25519 --openssh --seed`,
		Args: c.args(0, 0),
		RunE: func(*cobra.Command, []string) error { return c.keyGen(g) },
	}
	f := cmd.Flags()
	f.StringVar(&g.owner, "for", "", "whose key it is: the `ADDRESS` that goes into the certificate, for people to read")
	f.StringVar(&g.out, "out", "", "the files' `NAME`, without ending (default: what stands before the @ of --for)")
	f.StringVar(&g.typ, "type", "ecdsa", "`TYPE` of key: ecdsa (P-256, which every program can use) or ed25519")
	f.BoolVar(&g.force, "force", false, "overwrite files that exist")
	f.BoolVar(&g.legacy, "p12-legacy", false, "write the .p12 with old ciphers, for macOS before 15 and old Android and Windows")
	f.BoolVar(&g.openssh, "openssh", false, "write the key for OpenSSH as well")
	f.BoolVar(&g.seed, "seed", false, "write the seed of the Ed25519 key as well")
	return c.here(c.jsonFlag(cmd), "leave them out; key add, which is for the public part, takes them")
}

// generated is the result of "key gen".
type generated struct {
	Fingerprint authkeys.Fingerprint `json:"fingerprint"`
	Type        string               `json:"type"`
	Key         string               `json:"key"`
	Certificate string               `json:"certificate"`
	Both        string               `json:"both"`
	P12         string               `json:"p12"`
	Passphrase  string               `json:"p12_passphrase"`
	OpenSSH     string               `json:"openssh,omitempty"`
	Public      string               `json:"public,omitempty"`
	Seed        string               `json:"seed,omitempty"`
}

func (c *cli) keyGen(g keyGen) error {
	if err := g.complete(); err != nil {
		return err
	}
	name := g.owner
	if name == "" {
		name = filepath.Base(g.out)
	}
	identity, err := client.NewIdentity(client.KeyType(g.typ), name)
	if err != nil {
		return err
	}
	res := generated{
		Fingerprint: identity.Fingerprint(), Type: identity.Type(), Passphrase: accounts.GeneratePassword(),
		Key: g.out + ".key", Certificate: g.out + ".crt", Both: g.out + ".pem", P12: g.out + ".p12",
	}
	if g.openssh {
		res.OpenSSH, res.Public = g.out+".openssh", g.out+".pub"
	}
	if g.seed {
		res.Seed = g.out + ".seed"
	}
	if err := g.write(res, identity); err != nil {
		return err
	}
	return c.print(res, func(w io.Writer) { c.printGenerated(w, g, res) })
}

// complete checks the flags and fills in what follows from others.
func (g *keyGen) complete() error {
	if g.out == "" {
		g.out, _, _ = strings.Cut(g.owner, "@")
	}
	var err error
	switch base := filepath.Base(g.out); {
	case g.out == "" || strings.HasSuffix(g.out, "/") || base == "." || base == "..":
		err = withHint(errors.New("the files need a name"), "say --out NAME")
	case g.typ != "ecdsa" && g.typ != "ed25519":
		err = withHint(fmt.Errorf("--type %q is not a type of key", g.typ), "say ecdsa or ed25519")
	case g.seed && g.typ != "ed25519":
		err = withHint(client.ErrNoSeed, "say --type ed25519 with --seed")
	case g.owner != "":
		if _, e := accounts.ParseAddress(g.owner); e != nil {
			err = withHint(fmt.Errorf("--for %q: %w", g.owner, e), "say an e-mail address, such as alice@localhost")
		}
	}
	if err != nil {
		return &usageError{err}
	}
	return nil
}

// secretFile is a file that key gen writes.
type secretFile struct {
	name string
	data []byte
}

// files are what key gen writes.
func (g *keyGen) files(res generated, identity *client.Identity) ([]secretFile, error) {
	key, err := identity.KeyPEM()
	if err != nil {
		return nil, err
	}
	p12, err := identity.PKCS12(res.Passphrase, g.legacy)
	if err != nil {
		return nil, err
	}
	cert := identity.CertificatePEM()
	all := []secretFile{
		{res.Key, key}, {res.Certificate, cert}, {res.Both, append(key[:len(key):len(key)], cert...)}, {res.P12, p12},
	}
	if g.openssh {
		private, err := identity.OpenSSH("")
		if err != nil {
			return nil, err
		}
		all = append(all, secretFile{res.OpenSSH, private}, secretFile{res.Public, []byte(identity.PublicLine() + "\n")})
	}
	if g.seed {
		seed, err := identity.Seed()
		if err != nil {
			return nil, err
		}
		all = append(all, secretFile{res.Seed, []byte(seed + "\n")})
	}
	return all, nil
}

// write writes the files, or, when one of them exists, none.
func (g *keyGen) write(res generated, identity *client.Identity) error {
	files, err := g.files(res, identity)
	if err != nil {
		return err
	}
	for _, f := range files {
		if exists(f.name) && !g.force {
			return withHint(fmt.Errorf("%s exists already", f.name), "choose another --out, or say --force to overwrite")
		}
	}
	for _, f := range files {
		fill := func(w io.Writer) error { _, err := w.Write(f.data); return err }
		if err := writeSecret(f.name, g.force, fill); err != nil {
			return err
		}
	}
	return nil
}

func (c *cli) printGenerated(w io.Writer, g keyGen, res generated) {
	account := g.owner
	if account == "" {
		account = "ACCOUNT"
	}
	var f fields
	f.add("Fingerprint", res.Fingerprint.String())
	f.add("Type", res.Type)
	f.add("Private key", res.Key)
	f.add("Certificate", res.Certificate)
	f.add("Both", res.Both)
	f.add("PKCS #12", res.P12)
	f.add("Its passphrase", res.Passphrase)
	if g.openssh {
		f.add("For OpenSSH", res.OpenSSH)
		f.add("Public key", res.Public)
	}
	if g.seed {
		f.add("Seed", res.Seed)
	}
	f.write(w)
	fmt.Fprintf(w, "\nRegister it:\n  %s key add %s < %s\n", c.invocation(), quote(account), quote(res.Both))
}
