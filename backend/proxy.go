package backend

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"posthorn/backend/upstream"
)

// ProxyConfig is a mail system behind the gateway: an IMAP server, a submission
// server, or both.
type ProxyConfig struct {
	Name string
	// KeepsPasswords says that the mail system checks passwords; else they are
	// checked here, and the logins of Server are used for them too.
	KeepsPasswords bool
	// LocalPart says that users are known by the part before the @ there.
	LocalPart        bool
	IMAP, Submission *Server // nil: it has none
	// AnySender leaves it to the submission server which sender addresses an
	// account may use.
	AnySender bool
	Log       zerolog.Logger
}

// Server is one of a mail system's servers.
type Server struct {
	Upstream upstream.Config // without Backend, Service, Open, and Log
	// Method logs in without the user's password; empty: only passwords do.
	Method Method
	// User and Password are the master user's; Separator stands between user
	// and master user with MasterSeparator (Dovecot's default is "*").
	User, Password, Separator string
	// Inform says that the client's address is passed on in the protocol: ID
	// with x-originating-ip, or XCLIENT. (For a PROXY header see Upstream.)
	Inform bool
}

// Method is a way to log in on behalf of a user without the user's password.
type Method string

const (
	Master          Method = "master"           // SASL PLAIN as the master user, with the user as authorization identity
	MasterSeparator Method = "master-separator" // SASL PLAIN as user*master
	XClient         Method = "xclient"          // submission: Postfix's XCLIENT with LOGIN
	ProxyCN         Method = "proxy-cn"         // the user name as CN in the PROXY header's TLS part, and EXTERNAL
	Trusted         Method = "trusted"          // submission: the server lets the gateway's address do it
)

// Proxy is the Backend for one mail system behind the gateway.
type Proxy struct{ config ProxyConfig }

// NewProxy returns the Backend for a mail system. It opens no connection.
func NewProxy(c ProxyConfig) (*Proxy, error) { panic("unbuilt") }

// Run checks the servers' health, and closes what has been idle too long, until
// ctx ends.
func (p *Proxy) Run(ctx context.Context) error { panic("unbuilt") }

// Status returns the state of every address.
func (p *Proxy) Status() []upstream.Status { panic("unbuilt") }

// Collectors returns the metrics.
func (p *Proxy) Collectors() []prometheus.Collector { panic("unbuilt") }
