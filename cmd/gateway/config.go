package main

import (
	"path/filepath"
	"slices"
	"time"
)

// Config is the configuration file. Every key is optional; defaultConfig holds
// the defaults. Relative paths are relative to the directory of the file, or,
// without a file, to the working directory. Keys marked (reload) are read
// again on SIGHUP; the others want a restart.
type Config struct {
	// DataDir is where everything is kept that must survive: accounts, keys,
	// certificates and mail. It is created with mode 0700.
	DataDir string `yaml:"data_dir"`
	// Hostname is the gateway's own name: for clients that send no server
	// name, and in what it writes into messages. Empty: the first of Domains.
	Hostname string `yaml:"hostname"`
	// Domains are the mail domains: the part after the @ of every address.
	Domains []string `yaml:"domains"`
	// PublicAddresses are where the gateway can be reached from outside, for DNS
	// records; empty: those of the shared listener and of this machine.
	PublicAddresses []string `yaml:"public_addresses"`

	Listen        Listen        `yaml:"listen"`
	MailNames     MailNames     `yaml:"mail_names"`
	WebNames      WebNames      `yaml:"web_names"`
	TLS           TLS           `yaml:"tls"`
	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol"`

	// Backends are the mail systems behind the gateway. Beside them there is
	// always "embedded", its own mailboxes.
	Backends []Backend `yaml:"backends"`
	// DefaultBackend is where accounts are whose record names none, and whose
	// domain is none of a backend's.
	DefaultBackend string `yaml:"default_backend"`
	// Site is where the web site of the domains is. (reload)
	Site Site `yaml:"site"`
	// Sites are web sites of some names or paths; the longest path wins. (reload)
	Sites []SiteOf `yaml:"sites"`
	// Web are the pages for people.
	Web Web `yaml:"web"`

	// Autoconfig, MTASTS and SecurityTXT are what programs and people learn from
	// the domains' names.
	Autoconfig  Autoconfig  `yaml:"autoconfig"`
	MTASTS      MTASTS      `yaml:"mta_sts"`
	SecurityTXT SecurityTXT `yaml:"security_txt"`
	// Signup lets people create accounts for themselves.
	Signup Signup `yaml:"signup"`

	Limits Limits `yaml:"limits"`

	// MaxMessageSize is the largest message that clients may submit; a mailbox
	// takes a little more, for what submission adds.
	MaxMessageSize Size `yaml:"max_message_size"`
	// Quota is how much mail an account may keep; 0: as much as it likes.
	Quota Size `yaml:"quota"`

	Submission Submission `yaml:"submission"`
	Log        Log        `yaml:"log"`

	// ShutdownTimeout is how long connections may take to end after SIGTERM.
	ShutdownTimeout Duration `yaml:"shutdown_timeout"`

	Admin Admin `yaml:"admin"`
}

// Listen says where to listen, as HOST:PORT. The host "localhost" stands for
// 127.0.0.1 and, where the machine has it, ::1; an empty host for every
// address. Port 0 takes a free port; "posthorn status" tells which. Sockets
// that systemd passes under the same names (FileDescriptorName=) take the
// place of what stands here; see socketNames.
type Listen struct {
	// Shared speaks every protocol over TLS; the one to put on port 443.
	Shared []string `yaml:"shared"`
	// IMAPS speaks IMAP over TLS; the registered port is 993.
	IMAPS []string `yaml:"imaps"`
	// Submissions speaks submission over TLS; the registered port is 465.
	Submissions []string `yaml:"submissions"`
	// IMAPStartTLS speaks IMAP that begins in cleartext; port 143.
	IMAPStartTLS []string `yaml:"imap_starttls"`
	// SubmissionStartTLS speaks submission that begins in cleartext; port 587.
	SubmissionStartTLS []string `yaml:"submission_starttls"`
	// HTTP answers the CA's http-01 challenges in cleartext, and sends everybody
	// else to HTTPS; port 80.
	HTTP []string `yaml:"http"`
	// Metrics serves /metrics and /healthz in clear HTTP, on a loopback
	// address; empty: only on the admin socket.
	Metrics string `yaml:"metrics"`
}

// MailNames are the server names (SNI) by which mail programs that offer no
// ALPN are told apart on the shared port. Certificates cover them too.
type MailNames struct {
	// IMAP names lead to IMAP; empty: imap.DOMAIN for each of Domains.
	IMAP []string `yaml:"imap"`
	// Submission names lead to submission; empty: smtp.DOMAIN and
	// submission.DOMAIN for each of Domains.
	Submission []string `yaml:"submission"`
}

// WebNames are server names of web services that mail programs and servers look
// for.
type WebNames struct {
	// Autoconfig serves autoconfig.DOMAIN for each of Domains.
	Autoconfig bool `yaml:"autoconfig"`
	// MTASTS is the id of the MTA-STS policy (RFC 8461), and serves mta-sts.DOMAIN
	// for each of Domains; empty: there is no policy.
	MTASTS string `yaml:"mta_sts"`
}

// ProxyProtocol is about load balancers in front of the gateway.
type ProxyProtocol struct {
	// From are the networks (such as 192.0.2.0/24) whose connections begin with a PROXY protocol
	// header, version 1 or 2, that tells the client's address. From others
	// such a header is garbage.
	From []string `yaml:"from"`
}

// Limits bound what strangers can take. (reload: for new connections; those of
// passwords for all)
type Limits struct {
	// Handshake is the time from accept to the end of the TLS handshake.
	Handshake Duration `yaml:"handshake"`
	// PreLogin is the time from accept to login.
	PreLogin Duration `yaml:"pre_login"`
	// Idle is how long a client that has logged in may be silent.
	Idle Duration `yaml:"idle"`
	// DeadPeer is after what time a peer is let go that has vanished from the
	// network without a word: a client, and, after a restart, a backend's server.
	DeadPeer Duration `yaml:"dead_peer"`
	// MinRate is how many bytes a second a client must take or send while
	// data waits.
	MinRate int `yaml:"min_rate"`

	// Connections is how many there may be in all. Those above it hear that the
	// gateway is busy, and those above twice as many hear nothing.
	Connections int `yaml:"connections"`
	// ConnectionsPerSource is how many one IPv4 address or IPv6 /64 may have.
	ConnectionsPerSource int `yaml:"connections_per_source"`
	// ConnectionsPerAccount is how many one account may have.
	ConnectionsPerAccount int `yaml:"connections_per_account"`
	// UnauthenticatedStart is the number of connections without a login from
	// which on a new one pushes another one out, at random.
	UnauthenticatedStart int `yaml:"unauthenticated_start"`
	// UnauthenticatedFull is the number at which every new one does.
	UnauthenticatedFull int `yaml:"unauthenticated_full"`
	// UnauthenticatedPerSource is how many of them one source may have; its
	// oldest one gives way to a new one.
	UnauthenticatedPerSource int `yaml:"unauthenticated_per_source"`

	// PreLoginLine is the longest IMAP command line before login.
	PreLoginLine Size `yaml:"pre_login_line"`
	// PreLoginLiteral is the largest IMAP literal before login.
	PreLoginLiteral Size `yaml:"pre_login_literal"`

	// PasswordsPerConnection is how many passwords are tried on one connection.
	PasswordsPerConnection int `yaml:"passwords_per_connection"`
	// PasswordFailures is how many wrong passwords one source may send within
	// PasswordWindow before it is blocked for PasswordBlock. Keys log in from
	// a blocked source all the same.
	PasswordFailures int      `yaml:"password_failures"`
	PasswordWindow   Duration `yaml:"password_window"`
	PasswordBlock    Duration `yaml:"password_block"`
}

// Submission is about mail that clients send.
type Submission struct {
	// RequireAuth wants an AUTH command even from clients that a key has
	// identified.
	RequireAuth bool `yaml:"require_auth"`
	// FromHeader says what happens to a message whose From header is none of
	// the account's addresses: "refuse" it, "replace" the header, "allow" it.
	FromHeader string `yaml:"from_header"`
	// ReceivedFrom writes the client's address and what it calls itself into
	// the Received field of its messages, for every recipient to see.
	ReceivedFrom bool `yaml:"received_from"`
	// MaxRecipients is how many a message may have.
	MaxRecipients int `yaml:"max_recipients"`
}

// Log is about the log, which goes to standard error.
type Log struct {
	// Level is "debug", "info", "warn" or "error". (reload)
	Level string `yaml:"level"`
	// Format is "json", "console", or "auto": console on a terminal.
	Format string `yaml:"format"`
	// Privacy leaves e-mail addresses and clients' addresses out.
	Privacy bool `yaml:"privacy"`
}

// defaultConfig returns the configuration of a gateway without a file: the
// embedded mailboxes, for this machine only.
func defaultConfig() *Config {
	return &Config{
		DataDir: "posthorn-data",
		Domains: []string{"localhost"},
		Listen: Listen{
			Shared:      []string{"localhost:8443"},
			IMAPS:       []string{"localhost:8993"},
			Submissions: []string{"localhost:8465"},
		},
		TLS:            defaultTLS(),
		DefaultBackend: embedded,
		Autoconfig:     defaultAutoconfig(),
		MTASTS:         defaultMTASTS(),
		Signup:         defaultSignup(),
		Web:            defaultWeb(),
		Limits: Limits{
			Handshake: Duration(10 * time.Second),
			PreLogin:  Duration(time.Minute),
			Idle:      Duration(35 * time.Minute),
			DeadPeer:  Duration(3 * time.Minute),
			MinRate:   100,

			Connections:              20000,
			ConnectionsPerSource:     500,
			ConnectionsPerAccount:    200,
			UnauthenticatedStart:     4000,
			UnauthenticatedFull:      8000,
			UnauthenticatedPerSource: 100,

			PreLoginLine:    8 << 10,
			PreLoginLiteral: 4 << 10,

			PasswordsPerConnection: 5,
			PasswordFailures:       10,
			PasswordWindow:         Duration(20 * time.Second),
			PasswordBlock:          Duration(5 * time.Minute),
		},
		MaxMessageSize:  50 << 20,
		Submission:      Submission{FromHeader: "refuse", MaxRecipients: 1000},
		Log:             Log{Level: "info", Format: "auto"},
		ShutdownTimeout: Duration(10 * time.Second),
	}
}

// hostname is the gateway's own name.
func (c *Config) hostname() string {
	if c.Hostname != "" || len(c.Domains) == 0 { // the latter is a mistake
		return c.Hostname
	}
	return c.Domains[0]
}

// imapNames are the server names that lead to IMAP.
func (c *Config) imapNames() []string { return c.mailNames(c.MailNames.IMAP, "imap.") }

// submissionNames are the server names that lead to submission.
func (c *Config) submissionNames() []string {
	return c.mailNames(c.MailNames.Submission, "smtp.", "submission.")
}

func (c *Config) mailNames(set []string, prefixes ...string) []string {
	if len(set) > 0 {
		return set
	}
	var names []string
	for _, d := range c.Domains {
		for _, p := range prefixes {
			names = append(names, p+d)
		}
	}
	return names
}

// webNames are the names of web services of all domains.
func (c *Config) webNames() (names []string) {
	for _, d := range c.Domains {
		autoconfig, mtaSTS := c.webNamesOf(d)
		names = append(names, autoconfig, mtaSTS)
	}
	return names
}

// webNamesOf are those of one domain; empty: it has none.
func (c *Config) webNamesOf(domain string) (autoconfig, mtaSTS string) {
	if c.WebNames.Autoconfig {
		autoconfig = "autoconfig." + domain
	}
	if c.WebNames.MTASTS != "" {
		mtaSTS = "mta-sts." + domain
	}
	return autoconfig, mtaSTS
}

// serverNames are all names that are served, the default one first.
func (c *Config) serverNames() (names []string) {
	all := slices.Concat([]string{c.hostname()}, c.Domains, c.imapNames(), c.submissionNames(), c.webNames(), c.otherNames())
	seen := map[string]bool{"": true}
	for _, n := range all {
		if !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	return names
}

// otherNames are served besides those that follow from the domains.
func (c *Config) otherNames() []string {
	return slices.Concat(c.siteNames(), c.Web.Hosts, c.Web.AskCertificate, []string{c.Admin.Host, c.TLS.ECH.PublicName}, c.TLS.Names)
}

// socket is where the admin socket is.
func (c *Config) socket() string {
	if c.Admin.Socket != "" {
		return c.Admin.Socket
	}
	return filepath.Join(c.DataDir, "admin.sock")
}

// storeDir and mailDir are where the databases are.
func (c *Config) storeDir() string { return filepath.Join(c.DataDir, "store") }
func (c *Config) mailDir() string  { return filepath.Join(c.DataDir, "mail") }

// resolve makes the paths of a file in dir absolute or relative to the working
// directory.
func (c *Config) resolve(dir string) {
	paths := []*string{&c.DataDir, &c.Admin.Socket, &c.TLS.KeyFile, &c.TLS.ACME.CA, &c.TLS.ACME.EABKeyFile, &c.Signup.TokenFile}
	for i := range c.TLS.Files {
		paths = append(paths, &c.TLS.Files[i].Cert, &c.TLS.Files[i].Key)
	}
	for i := range c.Backends {
		paths = append(paths, c.Backends[i].paths()...)
	}
	for i := range c.Sites {
		paths = append(paths, c.Sites[i].paths()...)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}
