package devices

import "posthorn/handlers/https/pages"

// client is a mail program that the pages know how to set up.
type client struct {
	ID   string // in forms, anchors and the script
	Name pages.Text
	// Explicit says that the program logs in by EXTERNAL even when it is greeted
	// as one who is logged in (PREAUTH), or may do so; its keys are registered
	// for that.
	Explicit bool
	// Files are what the program takes, the best first; file names them.
	Files []file
	Steps []pages.Text
}

// file is a form that a key can be had in.
type file string

const (
	modern     file = "modern"     // .p12 with AES
	compatible file = "compatible" // .p12 with triple DES
	pem        file = "pem"
	profile    file = "profile"
)

// clients, most of them as they have been seen to behave (docs of each; K-9's
// source, which logs in whatever the greeting was).
func clients() []client {
	return []client{
		{ID: "thunderbird", Name: pages.T("devices.client.thunderbird"), Files: []file{modern}, Steps: []pages.Text{
			pages.T("devices.thunderbird.import"),
			pages.T("devices.thunderbird.account"),
			pages.T("devices.thunderbird.incoming"),
			pages.T("devices.thunderbird.outgoing"),
			pages.T("devices.thunderbird.choose"),
		}},
		{ID: "apple", Name: pages.T("devices.client.apple"), Explicit: true, Files: []file{profile, compatible}, Steps: []pages.Text{
			pages.T("devices.apple.profile"),
			pages.T("devices.apple.install"),
			pages.T("devices.apple.incoming"),
			pages.T("devices.apple.outgoing"),
			pages.T("devices.apple.phone"),
		}},
		{ID: "k9", Name: pages.T("devices.client.k9"), Explicit: true, Files: []file{compatible}, Steps: []pages.Text{
			pages.T("devices.android.install"),
			pages.T("devices.k9.account"),
			pages.T("devices.k9.incoming"),
			pages.T("devices.k9.outgoing"),
		}},
		{ID: "fairemail", Name: pages.T("devices.client.fairemail"), Files: []file{compatible}, Steps: []pages.Text{
			pages.T("devices.android.install"),
			pages.T("devices.fairemail.account"),
			pages.T("devices.fairemail.incoming"),
			pages.T("devices.fairemail.outgoing"),
		}},
		{ID: "mutt", Name: pages.T("devices.client.mutt"), Files: []file{pem}, Steps: []pages.Text{
			pages.T("devices.mutt.save"),
			pages.T("devices.mutt.settings"),
		}},
		{ID: "other", Name: pages.T("devices.client.other"), Files: []file{modern, compatible, pem}, Steps: []pages.Text{
			pages.T("devices.other.file"),
			pages.T("devices.other.incoming"),
			pages.T("devices.other.outgoing"),
			pages.T("devices.other.external"),
		}},
	}
}

// clientNamed returns a client by its ID; the last, for programs that are not
// known, when there is none.
func clientNamed(id string) client {
	all := clients()
	for _, c := range all {
		if c.ID == id {
			return c
		}
	}
	return all[len(all)-1]
}
