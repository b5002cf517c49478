package devices

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"posthorn/handlers/https/account"
	"posthorn/handlers/https/pages"
)

// program is how to set up one client.
type program struct {
	client
	Args []any // of the steps' texts
	Open bool
	// Muttrc is settings for mutt; empty for other programs.
	Muttrc string
	// Profile is the URL of a profile without a key; empty: there is none for the
	// program.
	Profile string
	ways
}

// programs are the instructions for all clients; those for the one that is named
// are shown at once.
func (d *Devices) programs(v account.Visitor, file, open string) []program {
	w := d.ways(v)
	address := v.Account.Primary()
	args := []any{
		"address", address, "file", file,
		"imap_host", w.IMAP.Host, "imap_port", w.IMAP.Port, "smtp_host", w.SMTP.Host, "smtp_port", w.SMTP.Port,
	}
	var all []program
	for _, c := range clients() {
		c.Steps = slices.DeleteFunc(c.Steps, w.lack)
		p := program{client: c, Args: args, Open: c.ID == open, ways: w}
		switch c.ID {
		case "mutt":
			p.Muttrc = muttrc(address, file, w)
		case "apple":
			p.Profile = d.Profile(address)
		}
		all = append(all, p)
	}
	return all
}

// lack reports whether a step is about a server that there is none of.
func (w ways) lack(step pages.Text) bool {
	return w.IMAP.Host == "" && strings.HasSuffix(step.Key, ".incoming") ||
		w.SMTP.Host == "" && strings.HasSuffix(step.Key, ".outgoing")
}

// Text returns a step with what is put into it.
func (p program) Text(step pages.Text) pages.Text { return pages.T(step.Key, p.Args...) }

// muttrc is the settings of mutt for a key. Its quotes are like a shell's.
func muttrc(address, file string, w ways) string {
	at := func(s Server) string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }
	rc := "set ssl_client_cert = ~/.mutt/" + file + ".pem\n" +
		"set ssl_starttls = no\nset ssl_force_tls = yes\n" +
		"set from = " + shellQuote(address) + "\n"
	if w.IMAP.Host != "" {
		rc += "set imap_user = " + shellQuote(address) + "\n" +
			"set folder = " + shellQuote("imaps://"+at(w.IMAP)+"/") + "\n" +
			"set spoolfile = +INBOX\n"
	}
	if w.SMTP.Host != "" {
		rc += "set smtp_url = " + shellQuote("smtps://"+url.User(address).String()+"@"+at(w.SMTP)+"/") + "\n" +
			"set smtp_authenticators = 'external'\n"
	}
	return rc
}

// setup shows all instructions.
func (d *Devices) setup(w http.ResponseWriter, r *http.Request, v account.Visitor) {
	d.Pages.Render(w, r, http.StatusOK, "devices/setup", struct {
		Setup []program
		Ways  ways
	}{d.programs(v, fileName(v.Account.Primary(), ""), r.FormValue("client")), d.ways(v)})
}
