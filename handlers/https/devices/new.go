package devices

import (
	"net/http"
	"slices"
	"strings"

	"posthorn/handlers/https/account"
	"posthorn/handlers/https/pages"
	"posthorn/mobileconfig"
)

// newKey is the page that makes a key in the browser.
func (d *Devices) newKey(w http.ResponseWriter, r *http.Request, v account.Visitor) {
	d.Pages.Render(w, r, http.StatusOK, "devices/new", struct {
		Address  string
		Fields   fields
		Profile  string
		Identity string // what stands in Profile for the identity
		Setup    []program
		Offers   []offer
		Locked   string // IDs of clients whose files have a passphrase
	}{
		v.Account.Primary(), fieldsOf(settings{Client: r.FormValue("client"), Uses: usesOf(0)}, nil), d.profile(v), placeholder(),
		d.programs(v, fileName(v.Account.Primary(), ""), ""), offers(d.ways(v)), locked(),
	})
}

// offer is a file that the page can make, and whom it is for.
type offer struct {
	File    file
	Clients string // IDs, with spaces between them
	Text    pages.Text
}

// offers are the files for all clients; a profile is for both servers or none.
func offers(w ways) []offer {
	all := []offer{
		{File: modern, Text: pages.T("devices.file.modern")},
		{File: compatible, Text: pages.T("devices.file.compatible")},
		{File: pem, Text: pages.T("devices.file.pem")},
	}
	if w.Complete() {
		all = append([]offer{{File: profile, Text: pages.T("devices.file.profile")}}, all...)
	}
	for i := range all {
		for _, c := range clients() {
			for _, f := range c.Files {
				if f == all[i].File {
					all[i].Clients += " " + c.ID
				}
			}
		}
		all[i].Clients = all[i].Clients[1:] // every one is for somebody
	}
	return all
}

func locked() string {
	var ids []string
	for _, c := range clients() {
		if !slices.Equal(c.Files, []file{pem}) {
			ids = append(ids, c.ID)
		}
	}
	return strings.Join(ids, " ")
}

// identity stands in a profile until the browser puts the real one there, as
// only the browser has it.
const identity = "the identity that the browser makes"

func placeholder() string { return mobileconfig.Placeholder([]byte(identity)) }

func (d *Devices) profile(v account.Visitor) string {
	w := d.ways(v)
	p := mobileconfig.Profile{
		Host: d.Host, Name: v.Account.Primary(), Organization: d.Host, Address: v.Account.Primary(),
		IMAP:       mobileconfig.Server{Host: w.IMAP.Host, Port: w.IMAP.Port},
		Submission: mobileconfig.Server{Host: w.SMTP.Host, Port: w.SMTP.Port},
		Identity:   &mobileconfig.Identity{Name: v.Account.Primary(), PKCS12: []byte(identity)},
	}
	return string(p.Encode())
}
