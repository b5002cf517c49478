package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"posthorn/e2e/browser"
	"posthorn/passkeys"
)

// A passkey is added, signs in, and is removed; the session that it opened elsewhere
// ends with it.
func TestPasskeys(t *testing.T) {
	g := newGateway(t, "")
	password := g.account(ann)
	b := browser.Start(t, g.ca)
	p := b.Visit(browser.View{})
	p.Authenticator()

	g.signIn(p, ann, password)
	p.Open(g.web() + "/account/security")
	p.Type("#passkey-name", `<b>Phone</b> "x"`)
	p.Follow("form[data-passkey] button")
	p.Want("The passkey was added.")
	p.Want(`<b>Phone</b> "x"`)
	p.Inspect("security-passkey")

	p.Type("#passkey-name", "Again")
	p.Click("form[data-passkey] button")
	p.Wait("form[data-passkey] [role=alert]")
	p.Want("This device has a passkey for this account already.")

	p.Follow(".who button")
	p.Open(g.web() + "/account/activity")
	p.Wait("form[data-passkey] button")
	p.Inspect("sign-in-passkey")
	p.Follow("form[data-passkey] button")
	if p.Path() != "/account/activity" {
		t.Errorf("signed in, and at %s", p.Path())
	}
	p.Want("by passkey")

	other := b.Visit(browser.View{})
	g.signIn(other, ann, password)
	other.Open(g.web() + "/account/security")
	other.Want("by passkey")
	other.Click("summary")
	other.Type("li input[name=name]", "Old phone")
	other.Follow(`form[action$="rename"] button`)
	other.Want("Old phone")
	if list := g.posthorn("passkey", "list", ann); !strings.Contains(list, "Old phone") {
		t.Errorf("the command lists\n%s", list)
	}
	other.Click("summary")
	other.Follow(`form[action$="remove"] button`)
	other.Want("The passkey was removed, and 1 browser signed out.")
	p.Open(g.web() + "/account/")
	if !strings.HasPrefix(p.Path(), "/account/sign-in") {
		t.Errorf("the passkey is gone, and its session at %s", p.Path())
	}
	p.Click("form[data-passkey] button")
	p.Wait("form[data-passkey] [role=alert]")
	p.Want("The passkey may have been removed")

	// An operator removes one, and signs out whom it let in.
	g.signIn(p, ann, password)
	p.Open(g.web() + "/account/security")
	p.Type("#passkey-name", "New phone")
	p.Follow("form[data-passkey] button")
	p.Follow(".who button")
	p.Open(g.web() + "/account/activity")
	p.Wait("form[data-passkey] button")
	p.Follow("form[data-passkey] button")
	p.Want("by passkey")
	var list []passkeys.Passkey
	if err := json.Unmarshal([]byte(g.posthorn("passkey", "list", ann, "--json")), &list); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	g.posthorn("passkey", "remove", ann, list[0].ID)
	p.Open(g.web() + "/account/")
	if !strings.HasPrefix(p.Path(), "/account/sign-in") {
		t.Errorf("the operator has removed the passkey, and its session is at %s", p.Path())
	}
	if _, complaint, err := g.try("", binary, "passkey", "remove", ann, list[0].ID, "--config", g.config); err == nil || !strings.Contains(complaint, "hint: passkey list") {
		t.Errorf("twice: %s", complaint)
	}
}
