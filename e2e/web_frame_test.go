package e2e

import (
	"testing"

	"posthorn/e2e/browser"
)

// What is not there is said in the gateway's own frame, for everybody to read.
func TestWebFrame(t *testing.T) {
	g := newGateway(t, "")
	for _, v := range []browser.View{{}, {NoScript: true}} {
		p := browser.Start(t, g.ca).Visit(v)
		if status := p.Open(g.web() + "/account/assets/none"); status != 404 {
			t.Errorf("status %d", status)
		}
		p.Want("Not found")
		p.Inspect("not-found")
	}
}

// web is the gateway's address for browsers, without a path.
func (g *gateway) web() string { return "https://" + g.name + ":" + port(g.shared) }
