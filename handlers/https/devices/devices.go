// Package devices is the pages where people see to the keys of their devices:
// which there are, a new one (made in the browser, or by hand), and how to set
// up a mail program with it.
//
// A key that is made in the browser stays there. web/src/newkey.ts makes it and
// the files to install it from, and sends the certificate alone.
package devices

import (
	"embed"
	"net/http"

	"github.com/rs/zerolog"

	"posthorn/admin"
	"posthorn/handlers/https/account"
	"posthorn/handlers/https/pages"
)

//go:embed *.html texts assets
var files embed.FS

// Root is the path of the list, above all others of this package.
const Root = "/account/keys"

// Link is the entry of the menu that leads to the list.
func Link() pages.Link { return pages.Link{Path: Root, Text: "devices.menu"} }

// Config says what the pages show.
type Config struct {
	Pages *pages.Pages
	Admin *admin.Service
	// Host is the gateway's name.
	Host string
	// Servers returns the ways in for mail programs of an account with an address,
	// the best to type in first.
	Servers func(address string) []Server
	// Profile returns the URL of a profile for Apple's systems that sets up an address
	// and has the device ask for its password; empty: there is none.
	Profile func(address string) string
	Log     zerolog.Logger
}

// Handler serves somebody who has signed in.
type Handler func(http.ResponseWriter, *http.Request, account.Visitor)

// Devices serves the pages.
type Devices struct {
	Config
}

// New adds the package's pages to the frame.
func New(c Config) (*Devices, error) {
	if err := c.Pages.Add("devices", files); err != nil {
		return nil, err
	}
	return &Devices{c}, nil
}

// Routes returns what serves each pattern (of http.ServeMux), to be mounted
// behind account.Handler.SignedIn.
func (d *Devices) Routes() map[string]Handler {
	return map[string]Handler{
		"GET " + Root:                    d.list,
		"POST " + Root:                   d.add,
		"GET " + Root + "/new":           d.newKey,
		"GET " + Root + "/by-hand":       d.byHand,
		"GET " + Root + "/setup":         d.setup,
		"GET " + Root + "/phone":         d.phone,
		"GET " + Root + "/{key}":         d.show,
		"POST " + Root + "/{key}":        d.change,
		"GET " + Root + "/{key}/remove":  d.askRemove,
		"POST " + Root + "/{key}/remove": d.remove,
	}
}
