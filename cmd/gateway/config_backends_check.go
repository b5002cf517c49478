package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"posthorn/authkeys"
	"posthorn/backend/upstream"
)

// checkBackends reports what is wrong with backends and what leads there.
func (c *Config) checkBackends(p *problems) {
	names, domains := []string{embedded}, make(map[string]string)
	for i := range c.Backends {
		b, key := &c.Backends[i], fmt.Sprintf("backends[%d]", i)
		checkBackendName(p, key, b.Name, names)
		names = append(names, b.Name)
		for j, d := range b.Domains {
			key := fmt.Sprintf("%s.domains[%d]", key, j)
			switch other, twice := domains[d]; {
			case twice:
				p.add(key, "is of %s already", other)
			case !slices.Contains(c.Domains, d):
				p.add(key, "is none of domains: %s", d)
			}
			domains[d] = b.Name
		}
		b.check(p, key)
		if all := c.reach(b); b.UserName == "local_part" && len(all) > 1 {
			p.add(key+".user_name", "must be address, or the same name in two domains would be one user: it serves %s", strings.Join(all, ", "))
		}
		c.checkCircles(p, key, b)
	}
	if !slices.Contains(names, c.DefaultBackend) {
		p.add("default_backend", "must be one of %s, not %q", strings.Join(names, ", "), c.DefaultBackend)
	}
}

func checkBackendName(p *problems, key, name string, taken []string) {
	switch {
	case name == "":
		p.add(key, "must have a name")
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || len(name) > 63 || name[0] == '-':
		p.add(key+".name", "must be of lower-case letters, digits, - and _, not %q", name)
	case name == embedded:
		p.add(key+".name", "is the name of the gateway's own mailboxes")
	case slices.Contains(taken, name):
		p.add(key+".name", "stands there twice: %s", name)
	}
}

func (b *Backend) check(p *problems, key string) {
	p.oneOf(key+".passwords", b.Passwords, "backend", "local")
	p.oneOf(key+".user_name", b.UserName, "address", "local_part")
	imap, submission := !b.IMAP.blank(), !b.Submission.blank() || b.Submission.Sender != "account"
	if !imap && !submission {
		p.add(key, "must have imap, submission or both")
	}
	if imap {
		s := &b.IMAP
		part := serverCheck{p, key + ".imap", &s.BackendServer}
		part.check(b.Passwords, "master", "master-separator", "proxy-cn")
		part.choice("client_address", s.ClientAddress, "xclient", "submission", "none", "proxy", "id")
	}
	if submission {
		s := &b.Submission
		part := serverCheck{p, key + ".submission", &s.BackendServer}
		part.check(b.Passwords, "master", "master-separator", "xclient", "proxy-cn", "trusted")
		part.choice("client_address", s.ClientAddress, "id", "IMAP", "none", "proxy", "xclient")
		if s.Login == "xclient" && s.ClientAddress == "proxy" {
			p.add(key+".submission.client_address", `must be xclient or none with login: xclient, whose right a server gives to addresses`)
		}
		p.oneOf(key+".submission.sender", s.Sender, "account", "backend")
		if s.Login == "trusted" && s.Sender == "backend" {
			p.add(key+".submission.sender", "must be account with login: trusted, as such a server does not know who sends")
		}
	}
}

// checkCircles reports addresses at which the gateway would find itself.
func (c *Config) checkCircles(p *problems, key string, b *Backend) {
	for _, s := range b.parts() {
		for i, addr := range s.Addresses {
			if own := c.listenerAt(addr); own != "" {
				p.add(fmt.Sprintf("%s.%s.addresses[%d]", key, s.key, i), "is where the gateway itself listens: %s", own)
			}
		}
	}
}

// listenerAt returns the key of the listener that a backend's address leads to,
// as far as can be seen; empty: none.
func (c *Config) listenerAt(addr string) (key string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	for _, l := range c.listens() {
		for i, own := range l.addrs {
			ownHost, ownPort, err := net.SplitHostPort(own)
			if err == nil && ownPort == port && covers(ownHost, host) {
				return fmt.Sprintf("%s[%d]", l.key, i)
			}
		}
	}
	return ""
}

// covers reports whether a listener on a host gets what is sent to another.
func covers(listener, host string) bool {
	if listener == host || listener == "localhost" && (host == "127.0.0.1" || host == "::1") {
		return true
	}
	to, err := netip.ParseAddr(host)
	if host != "localhost" && (err != nil || !to.Unmap().IsLoopback()) {
		return false
	}
	return listener == "" || listener == "::" || listener == "0.0.0.0" && !to.Is6() ||
		host == "localhost" && isLoopback(listener)
}

// serverCheck checks one part of a backend.
type serverCheck struct {
	*problems
	key string
	*BackendServer
}

func (s serverCheck) add(name, format string, args ...any) {
	s.problems.add(s.key+"."+name, format, args...)
}

// choice is oneOf with a hint where the value would be right.
func (s serverCheck) choice(name, value, foreign, where string, allowed ...string) {
	if value == foreign {
		s.add(name, "%s is for %s; here it must be one of %s", foreign, where, strings.Join(allowed, ", "))
		return
	}
	s.oneOf(s.key+"."+name, value, allowed...)
}

func (s serverCheck) check(passwords string, logins ...string) {
	s.checkAddresses()
	s.checkTrust()
	s.checkLogin(passwords, logins)
}

func (s serverCheck) checkAddresses() {
	if len(s.Addresses) == 0 {
		s.problems.add(s.key, "must have addresses")
	}
	s.oneOf(s.key+".tls", s.TLS, "none", "implicit", "starttls")
	for i, addr := range s.Addresses {
		name := fmt.Sprintf("addresses[%d]", i)
		host, ok := backendHost(addr)
		switch {
		case !ok:
			s.add(name, "must be HOST:PORT, such as 127.0.0.1:143, or unix:/PATH, not %q", addr)
		case slices.Contains(s.Addresses[:i], addr):
			s.add(name, "stands there twice: %s", addr)
		case s.TLS == "none" && host != "" && !isLoopback(host):
			s.add(name, "is on another machine: passwords and mail want tls: starttls or implicit on the way there")
		}
	}
}

// backendHost returns an address's host; empty: it is a unix socket.
func backendHost(addr string) (host string, ok bool) {
	if _, ok := unixPath(addr); ok {
		return "", true
	}
	host, text, err := net.SplitHostPort(addr)
	port, perr := strconv.ParseUint(text, 10, 16)
	plain := strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
	return host, err == nil && perr == nil && port > 0 && host != "" && (plain || isIP(host))
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func (s serverCheck) checkTrust() {
	for _, set := range []struct {
		name string
		is   bool
	}{{"ca", s.CA != ""}, {"pins", len(s.Pins) > 0}, {"server_name", s.ServerName != ""}} {
		if s.TLS == "none" && set.is {
			s.add(set.name, "is of no use with tls: none")
		}
	}
	if s.ServerName != "" && !isIP(s.ServerName) {
		s.name(s.key+".server_name", s.ServerName)
	}
	for i, pin := range s.Pins {
		if _, err := authkeys.ParseFingerprint(pin); err != nil {
			s.add(fmt.Sprintf("pins[%d]", i), "must be SHA256: and the hash of a public key in base64, as key show prints it, not %q", pin)
		}
	}
}

func (s serverCheck) checkLogin(passwords string, logins []string) {
	master := s.Login == "master" || s.Login == "master-separator"
	switch {
	case s.Login == "" && passwords == "local":
		s.problems.add(s.key, "nobody could log in: with passwords: local it wants login: %s", strings.Join(logins, " or "))
	case s.Login != "" && !slices.Contains(logins, s.Login) && slices.Contains([]string{"xclient", "trusted"}, s.Login):
		s.add("login", "%s is for submission; here it must be one of %s", s.Login, strings.Join(logins, ", "))
	case s.Login != "":
		s.oneOf(s.key+".login", s.Login, logins...)
	}
	switch {
	case master && s.MasterUser == "":
		s.add("login", "%s wants master_user", s.Login)
	case master && s.MasterPasswordFile == "":
		s.add("login", "%s wants master_password_file", s.Login)
	case master && strings.ContainsAny(s.MasterUser, "\x00\r\n"):
		s.add("master_user", "must not have control characters")
	case !master && s.MasterUser != "":
		s.add("master_user", "is of no use without login: master or master-separator")
	case !master && s.MasterPasswordFile != "":
		s.add("master_password_file", "is of no use without login: master or master-separator")
	case s.Login == "master-separator" && s.MasterSeparator == "":
		s.add("master_separator", "must not be empty")
	case s.Login == "proxy-cn" && s.ClientAddress != "proxy":
		s.add("login", "proxy-cn wants client_address: proxy, since the name is in that header")
	case s.Login == "proxy-cn" && s.TLS != "none":
		s.add("login", "proxy-cn wants tls: none, since within TLS a server looks for the name in a certificate; master works there")
	}
}

// checkFiles reports what is wrong with the files that backends, sites, tls and
// signup name. The paths are resolved.
func (c *Config) checkFiles() problems {
	var p problems
	c.checkTLSFiles(&p)
	c.checkSiteFiles(&p)
	if _, err := c.Signup.token(); err != nil {
		p.add("signup.token_file", "cannot be used: %v", err)
	}
	for i := range c.Backends {
		b := &c.Backends[i]
		for _, s := range b.parts() {
			key := fmt.Sprintf("backends[%d].%s.", i, s.key)
			if s.MasterPasswordFile != "" {
				if _, err := readSecret(s.MasterPasswordFile); err != nil {
					p.add(key+"master_password_file", "cannot be used: %v", err)
				}
			}
			if s.CA != "" {
				if _, err := upstream.TrustConfig(s.CA, nil, ""); err != nil {
					p.add(key+"ca", "cannot be used: %v", err)
				}
			}
		}
	}
	return p
}

// maxSecret bounds the files that readSecret reads, in bytes.
const maxSecret = 4096

// readSecret returns the first line of a file that only its owner and group can
// read. The error does not repeat any of it.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file", path)
	case info.Size() > maxSecret:
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxSecret)
	case info.Mode().Perm()&0o007 != 0:
		return "", fmt.Errorf("%s is open to every user of this machine: chmod o= %s", path, quote(path))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	switch {
	case line == "":
		return "", fmt.Errorf("%s: its first line is empty", path)
	case strings.ContainsAny(line, "\x00\r"):
		return "", fmt.Errorf("%s: its first line has control characters", path)
	}
	return line, nil
}
