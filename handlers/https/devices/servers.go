package devices

import "posthorn/handlers/https/account"

// Server is a way in for mail programs.
type Server struct {
	Protocol Protocol
	Host     string
	Port     int
	StartTLS bool // else TLS from the first octet on
	// ALPN is the protocol ID (RFC 7301) without which the Host does not lead
	// there; empty: Host and Port say enough, as most programs send none.
	ALPN string
	// NoKeys says that a key does not log in there: the mail system behind takes
	// passwords alone.
	NoKeys bool
}

// Protocol is what mail programs speak.
type Protocol string

const (
	IMAP       Protocol = "IMAP"
	Submission Protocol = "SMTP"
)

// webPort is the one that is open where others are not.
const webPort = 443

// ways are the servers as the instructions name them.
type ways struct {
	// IMAP and SMTP are what to type in. They need no ALPN. Without a Host there
	// are none.
	IMAP, SMTP Server
	// WebIMAP and WebSMTP are the same through the port of the web; nil: they
	// are the ones above, or there are none.
	WebIMAP, WebSMTP *Server
	All              []Server
}

func waysOf(all []Server) ways {
	w := ways{All: all}
	w.IMAP, w.WebIMAP = choose(all, IMAP)
	w.SMTP, w.WebSMTP = choose(all, Submission)
	return w
}

// Complete reports whether mail can be read and sent.
func (w ways) Complete() bool { return w.IMAP.Host != "" && w.SMTP.Host != "" }

// NoKeys reports whether there is a server that a key does not log in to.
func (w ways) NoKeys() bool { return w.IMAP.NoKeys || w.SMTP.NoKeys }

// ways are those of a visitor.
func (d *Devices) ways(v account.Visitor) ways { return waysOf(d.Servers(v.Account.Primary())) }

// choose returns the server to type in, and the one to try where only the web
// gets through.
func choose(all []Server, p Protocol) (best Server, web *Server) {
	found := false
	for _, s := range all {
		switch {
		case s.Protocol != p || s.ALPN != "" || s.StartTLS:
		case !found:
			best, found = s, true
		case s.Port == webPort && best.Port != webPort && web == nil:
			web = &s
		}
	}
	return best, web
}
