package main

import (
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// embedded is the name of the backend that is the gateway's own mailboxes.
const embedded = "embedded"

// Backend is a mail system behind the gateway. What changes here wants a
// restart, the contents of its files as well.
type Backend struct {
	// Name is how accounts, commands and metrics call it.
	Name string `yaml:"name"`
	// Domains are those whose accounts are here unless their record names
	// another backend.
	Domains []string `yaml:"domains"`
	// Passwords says who checks them: "backend", where each is sent once, or
	// "local", the gateway itself.
	Passwords string `yaml:"passwords"`
	// UserName is how users are known there: by their "address", or, in one
	// domain only, by the "local_part", what stands before the @.
	UserName string `yaml:"user_name"`
	// IMAP is where their mail is read.
	IMAP IMAPServer `yaml:"imap"`
	// Submission is where their mail is handed in.
	Submission SubmissionServer `yaml:"submission"`
}

// BackendServer is what an IMAP server and a submission server have in common.
type BackendServer struct {
	// Addresses are where it is, as HOST:PORT or unix:/PATH. The one that has
	// the fewest connections is taken, among those that are well.
	Addresses []string `yaml:"addresses"`
	// TLS is "none", on loopback addresses and unix sockets only, "implicit",
	// or "starttls".
	TLS string `yaml:"tls"`
	// CA is a PEM file of the CAs to believe; empty: the system's.
	CA string `yaml:"ca"`
	// Pins are public keys that are believed whatever else their certificate
	// says, as SHA256:…
	Pins []string `yaml:"pins"`
	// ServerName is what the certificate must be for; empty: the host of the
	// address.
	ServerName string `yaml:"server_name"`
	// Login is how the gateway logs in without the user's password, which is
	// what a key wants, and every login when passwords are local: "master"
	// (SASL PLAIN as the master user, with the user as authorization identity),
	// "master-separator" (SASL PLAIN as USER*MASTER), "proxy-cn" (the user as
	// common name of a client certificate in the PROXY header, and EXTERNAL;
	// with tls: none only, as servers look for it in TLS else);
	// for submission also "xclient" (Postfix's XCLIENT with LOGIN) and "trusted"
	// (the server lets the gateway's address do everything). Empty: not at all.
	Login string `yaml:"login"`
	// MasterUser is the master user's name, for the first two.
	MasterUser string `yaml:"master_user"`
	// MasterPasswordFile is a file whose first line is the master user's
	// password. Others than its owner and group must not be able to read it.
	MasterPasswordFile string `yaml:"master_password_file"`
	// MasterSeparator stands between the two names of "master-separator".
	MasterSeparator string `yaml:"master_separator"`
	// ClientAddress is how the server hears of the client's address: "none",
	// "proxy" (a PROXY protocol header, version 2), for IMAP "id"
	// (x-originating-ip, RFC 2971), for submission "xclient".
	ClientAddress string `yaml:"client_address"`
}

// IMAPServer is the IMAP part of a backend.
type IMAPServer struct {
	BackendServer `yaml:",inline"`
}

// SubmissionServer is the submission part of a backend.
type SubmissionServer struct {
	BackendServer `yaml:",inline"`
	// Sender says which sender addresses (MAIL FROM) an account may use: "account", its
	// own, or "backend", which decides itself.
	Sender string `yaml:"sender"`
}

// defaultServer is a part that says nothing: the backend has none.
func defaultServer() BackendServer {
	return BackendServer{TLS: "none", MasterSeparator: "*", ClientAddress: "none"}
}

// defaultBackend returns a backend that says nothing.
func defaultBackend() Backend {
	return Backend{
		Passwords:  "backend",
		UserName:   "address",
		IMAP:       IMAPServer{defaultServer()},
		Submission: SubmissionServer{defaultServer(), "account"},
	}
}

// UnmarshalYAML implements yaml.Unmarshaler: what is left out has its default.
func (b *Backend) UnmarshalYAML(n *yaml.Node) error {
	type plain Backend
	p := plain(defaultBackend())
	err := n.Decode(&p)
	*b = Backend(p)
	return err
}

// has reports whether the backend has a part.
func (s *BackendServer) has() bool { return len(s.Addresses) > 0 }

// blank reports whether a part says nothing.
func (s BackendServer) blank() bool {
	if len(s.Addresses)+len(s.Pins) > 0 {
		return false
	}
	s.Addresses, s.Pins = nil, nil
	return reflect.DeepEqual(s, defaultServer())
}

// part is one of a backend's servers by its key.
type part struct {
	key string
	*BackendServer
}

func (b *Backend) parts() []part {
	return []part{{"imap", &b.IMAP.BackendServer}, {"submission", &b.Submission.BackendServer}}
}

// paths are the files that a backend names, to be resolved.
func (b *Backend) paths() (paths []*string) {
	for _, s := range b.parts() {
		paths = append(paths, &s.CA, &s.MasterPasswordFile)
	}
	return paths
}

// unixPath returns the path of a unix socket, if addr is one.
func unixPath(addr string) (path string, ok bool) {
	path, ok = strings.CutPrefix(addr, "unix:")
	return path, ok && filepath.IsAbs(path)
}
