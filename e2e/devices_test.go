package e2e

import (
	"bytes"
	"encoding/json"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"

	"posthorn/e2e/browser"
)

// signedIn is a window in which ann has signed in.
func (g *gateway) signedIn(b *browser.Browser, v browser.View, password string) *browser.Page {
	g.t.Helper()
	p := b.Visit(v)
	if status := g.signIn(p, ann, password); status != 200 {
		g.t.Fatalf("sign-in: status %d", status)
	}
	return p
}

// A key is made in the browser for each program, in the form that it takes; logs in
// to IMAP on the shared port; and is removed on the page, which ends its session.
func TestDeviceByBrowser(t *testing.T) {
	g := newGateway(t, "")
	password := g.account(ann)
	p := g.signedIn(browser.Start(t, g.ca), browser.View{}, password)
	for _, tt := range []struct {
		client, link, file, ciphers string
		preauth                     bool
	}{
		{"thunderbird", "modern", ".p12", "AES-256-CBC", true},
		{"apple", "compatible", ".p12", "TripleDES", false},
		{"k9", "compatible", ".p12", "TripleDES", false},
		{"fairemail", "compatible", ".p12", "TripleDES", true},
		{"mutt", "pem", ".pem", "", true},
	} {
		p.Follow(`nav a[href="/account/keys"]`)
		p.Follow(`a[href="/account/keys/new"]`)
		p.Wait("#newkey")
		browser.Eval[bool](p, listenIn)
		p.Type("#name", "Ann’s "+tt.client)
		p.Select("#client", tt.client)
		browser.Eval[bool](p, `(() => { const b = document.getElementById("newkey-make"); b.click(); b.click(); return true })()`)
		p.Wait("#newkey-done")
		if tt.client == "apple" {
			p.Inspect("key-made")
		}
		name, file := p.Download("#newkey-" + tt.link)
		if want := "ann-ann-s-" + tt.client + tt.file; name != want {
			t.Errorf("the file is called %q, not %q", name, want)
		}
		passphrase := browser.Eval[string](p, `document.getElementById("newkey-passphrase").value`)
		if visible := p.Text("#newkey-made ol"); len(passphrase) != 24 || strings.Contains(visible, passphrase) != (tt.link != "pem") {
			t.Errorf("passphrase %q in %q", passphrase, visible)
		}
		sent := browser.Eval[string](p, "sent.join()")
		if strings.Count(sent, "BEGIN+CERTIFICATE") != 1 || strings.Contains(sent, "PRIVATE") || strings.Contains(sent, passphrase) {
			t.Errorf("the page sends %s", sent)
		}
		for _, other := range []string{"thunderbird", "apple", "k9", "fairemail", "mutt", "other"} {
			if shown := !browser.Eval[bool](p, `document.querySelector('section[data-for="`+other+`"]').hidden`); shown != (other == tt.client) {
				t.Errorf("%s: instructions for %s are shown: %t", tt.client, other, shown)
			}
		}
		pemFile := filepath.Join(g.dir, tt.client+".pem")
		if tt.link != "pem" {
			file = g.unpack(file, passphrase, tt.ciphers)
		}
		if err := os.WriteFile(pemFile, file, 0o600); err != nil {
			t.Fatal(err)
		}
		session := imapClient(g.dial(pemFile, "imap"))
		if err := session.WaitGreeting(); err != nil {
			t.Fatal(err)
		}
		if preauth := session.State() == imap.ConnStateAuthenticated; preauth != tt.preauth {
			t.Errorf("%s: logged in by the greeting: %t", tt.client, preauth)
		}
		if !tt.preauth {
			if err := session.Authenticate(sasl.NewExternalClient("")); err != nil {
				t.Errorf("%s: %v", tt.client, err)
			}
		}
		g.submit(pemFile, ann, ann, letter(ann, ann, "by "+tt.client, "Hello."))
		if tt.client == "apple" {
			g.checkProfile(p)
		}

		// A reload leads to the page of the key that has been made.
		p.Open(g.web() + p.Path())
		p.Want("Ann’s " + tt.client)
		p.Want("EXTERNAL")
		p.Follow(`main a.danger`)
		p.Want("1 connection that is open with it will end.")
		p.Follow(`main button.danger`)
		p.Want("The key Ann’s " + tt.client + " has been removed. 1 open connection was ended.")
		if err := session.Noop().Wait(); err == nil {
			t.Errorf("%s: the session goes on", tt.client)
		}
		session.Close()
	}
	if keys := g.posthorn("key", "list", ann); strings.Contains(keys, "Ann") {
		t.Errorf("left are\n%s", keys)
	}
}

// listenIn notes what a page sends.
const listenIn = `(() => { window.sent = []; const send = fetch;
	window.fetch = (where, what) => { sent.push(String(what.body)); return send(where, what) }; return true })()`

// unpack has openssl read a PKCS #12 file, which is to be of certain ciphers, and
// returns the key and the certificate.
func (g *gateway) unpack(file []byte, passphrase, ciphers string) []byte {
	g.t.Helper()
	cmd := exec.Command("openssl", "pkcs12", "-info", "-nodes", "-passin", "pass:"+passphrase)
	cmd.Stdin = bytes.NewReader(file)
	var info bytes.Buffer
	cmd.Stderr = &info
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("openssl does not read the file: %v\n%s", err, &info)
	}
	if strings.Count(info.String(), ciphers) != 2 {
		g.t.Errorf("the file is not of %s:\n%s", ciphers, &info)
	}
	wrong := exec.Command("openssl", "pkcs12", "-noout", "-passin", "pass:"+passphrase[1:])
	wrong.Stdin = bytes.NewReader(file)
	if wrong.Run() == nil {
		g.t.Error("the file opens with another passphrase")
	}
	return out
}

// checkProfile has Python read the profile, and openssl the identity in it.
func (g *gateway) checkProfile(p *browser.Page) {
	g.t.Helper()
	name, file := p.Download("#newkey-profile")
	if name != "ann-ann-s-apple.mobileconfig" {
		g.t.Errorf("the profile is called %q", name)
	}
	cmd := exec.Command("python3", "-c", `import plistlib, sys
mail, identity = plistlib.loads(sys.stdin.buffer.read())["PayloadContent"]
assert mail["EmailAddress"] == "`+ann+`" and mail["IncomingMailServerPortNumber"] == `+port(g.imaps)+`, mail
sys.stdout.buffer.write(identity["PayloadContent"])`)
	cmd.Stdin = bytes.NewReader(file)
	identity, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("the profile: %v\n%s", err, file)
	}
	g.unpack(identity, p.Text("#newkey-passphrase"), "TripleDES")
}

// A lost connection is no loss: the same key is sent again.
func TestDeviceByBrowserAgain(t *testing.T) {
	g := newGateway(t, "")
	password := g.account(ann)
	p := g.signedIn(browser.Start(t, g.ca), browser.View{}, password)
	for _, tt := range []struct{ name, fetch, want string }{
		{"unsent", `Promise.reject(new TypeError("no network"))`, "could not be reached"},
		{"unanswered", `send(where, what).then(() => { throw new TypeError("no network") })`, "could not be reached"},
		{"signed out", `send("/account/sign-out", {method: "POST"}).then(() => send(where, what))`, "signed out"},
		{"garbage", `Promise.resolve(new Response("{", {status: 201, headers: {"Content-Type": "application/json"}}))`, "could not be reached"},
		{"a bad gateway", `Promise.resolve(new Response("<h1>502", {status: 502, headers: {"Content-Type": "text/html"}}))`, "could not be reached"},
	} {
		p.Open(g.web() + "/account/keys/new")
		p.Wait("#newkey")
		browser.Eval[bool](p, `(() => { const send = fetch;
			window.fetch = (where, what) => { window.fetch = send; return `+tt.fetch+` }; return true })()`)
		p.Type("#name", tt.name)
		p.Click("#newkey-make")
		p.Wait("#newkey-failure")
		p.Want(tt.want)
		if tt.name == "unsent" {
			p.Inspect("key-failed")
		}
		if tt.name == "signed out" { // and in again, in another tab
			browser.Eval[bool](p, `fetch("/account/sign-in", {method: "POST", body: new URLSearchParams({address: "`+ann+`", password: "`+password+`"})}).then(r => r.ok)`)
		}
		p.Click("#newkey-make")
		p.Wait("#newkey-done")
		p.Download("#newkey-modern") // else the browser would ask whether to leave
	}
	p.Open(g.web() + "/account/keys")
	if n := p.Count(".items > li"); n != 5 {
		t.Errorf("%d keys were registered, want one for each time", n)
	}
	p.Open(g.web() + "/account/keys/new")
	p.Wait("#newkey")
	browser.Eval[bool](p, `(document.getElementById("name").value = "\u202e", true)`)
	p.Click("#newkey-make")
	p.Wait("#newkey-failure")
	p.Want("A name has 1 to 100 characters")
}

// By hand: the commands, as the page shows them and in a shell, make the file that
// its form takes. It works without scripts too.
func TestDeviceByHand(t *testing.T) {
	g := newGateway(t, "")
	password := g.account(ann)
	b := browser.Start(t, g.ca)
	for _, v := range []browser.View{{}, {NoScript: true}} {
		p := g.signedIn(b, v, password)
		p.Follow(`nav a[href="/account/keys"]`)
		p.Inspect("keys")
		if v.NoScript {
			p.Follow(`a[href="/account/keys/new"]`)
			p.Want("Your browser does not run scripts here")
			p.Inspect("key-new-without-scripts")
			p.Follow(`noscript a`)
		} else {
			p.Follow(`a[href="/account/keys/by-hand"]`)
		}
		p.Type("#device", "lap'top; $(exit)")
		p.Follow("form.actions button")
		p.Inspect("key-by-hand")
		dir := t.TempDir()
		cmd := exec.Command("setsid", "sh", "-euc", html.UnescapeString(p.Text("#openssl")))
		cmd.Dir, cmd.Stdin = dir, strings.NewReader("secret\nsecret\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		base := filepath.Join(dir, "ann-lap-top-exit")

		p.Upload("#file", base+".key")
		p.Follow("form[enctype] button")
		p.Want("think of it as exposed")
		p.Inspect("key-exposed")

		p.Upload("#file", base+".crt")
		p.Select("#client", "mutt")
		p.Type("#name", "by hand")
		p.Follow("form[enctype] button")
		p.Want("The key by hand has been added.")
		p.Inspect("key")

		key, err := os.ReadFile(base + ".key")
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := os.ReadFile(base + ".crt")
		if err != nil {
			t.Fatal(err)
		}
		pemFile := base + ".pem"
		if err := os.WriteFile(pemFile, append(key, certificate...), 0o600); err != nil {
			t.Fatal(err)
		}
		session := imapclient.New(g.dial(pemFile, "imap"), nil)
		if err := session.WaitGreeting(); err != nil || session.State() != imap.ConnStateAuthenticated {
			t.Errorf("not logged in: %v", err)
		}
		p.Open(g.web() + "/account/keys")
		p.Want("imap PREAUTH, from 127.0.0.1")

		// What the key may do no longer ends its session.
		p.Follow(".items a")
		p.Click(`input[value="imap"]`)
		p.Click(`input[value="https"]`)
		p.Follow(`form[action*="/account/keys/"] button`)
		p.Want("The key by hand has been changed.")
		ends(t, func() error { return session.Noop().Wait() })
		p.Follow(`main a.danger`)
		p.Inspect("key-remove")
		p.Follow(`main button.danger`)
		p.Want("has been removed")
	}
}

// The code for Delta Chat sets Delta Chat up; and the rest of the pages.
func TestDevicePhone(t *testing.T) {
	g := newGateway(t, "")
	const address = "ann+p=x&y@localhost"
	const password = "pass wörd?p=1&v=2#'!"
	g.posthornIn(password+"\n", "account", "add", address, "--password-stdin")
	p := browser.Start(t, g.ca).Visit(browser.View{})
	g.signIn(p, address, password)
	p.Open(g.web() + "/account/keys/setup?client=apple")
	p.Inspect("setup")
	profile := g.look(browser.Eval[string](p, `document.querySelector("#apple a")?.href ?? ""`))
	if !strings.Contains(profile, "com.apple.mail.managed") || !strings.Contains(profile, "<string>"+html.EscapeString(address)+"</string>") {
		t.Errorf("the profile without a key: %s", profile)
	}
	p.Open(g.web() + "/account/keys/phone")
	browser.Eval[bool](p, listenIn)
	p.Type("#deltachat-password", password)
	p.Click("#deltachat button")
	p.Wait("#deltachat-code svg")
	p.Inspect("phone")
	codes := g.scan(browser.Eval[[]string](p, `[...document.querySelectorAll(".qr svg")].map(s => s.querySelector("path").getAttribute("d"))`))
	if len(codes) != 2 || codes[1] != g.web()+"/account/keys/new" {
		t.Fatalf("the codes say %q", codes)
	}
	if sent := browser.Eval[string](p, "sent.join()"); sent != "" {
		t.Errorf("the page sends %s", sent)
	}
	c := startCore(t)
	var id int
	c.call(&id, "add_account")
	c.call(nil, "add_transport_from_qr", id, codes[0]+"&ic=3") // a certificate that no CA has issued
	var addr string
	c.call(&addr, "get_config", id, "configured_addr")
	if addr != address {
		t.Errorf("Delta Chat is set up for %q", addr)
	}
	p.Type("#deltachat-password", "x")
	if p.Count("#deltachat-code svg") != 0 {
		t.Error("the code of another password stays")
	}
}

// scan reads QR codes, each as the path that draws it.
func (g *gateway) scan(paths []string) (texts []string) {
	g.t.Helper()
	in, err := json.Marshal(paths)
	if err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command("node", "--input-type=module", "-e", `
import decode from "qr/decode.js";
const scale = 4, paths = JSON.parse(process.argv[1]);
console.log(JSON.stringify(paths.map((path) => {
	const on = [...path.matchAll(/M(\d+) (\d+)h1v1h-1z/g)].map((m) => [Number(m[1]), Number(m[2])]);
	const size = scale * (Math.max(...on.flat()) + 5), data = new Uint8Array(size * size * 4).fill(255);
	for (const [x, y] of on) for (let i = 0; i < scale; i++) for (let j = 0; j < scale; j++)
		data.fill(0, 4 * ((y * scale + i) * size + x * scale + j), 4 * ((y * scale + i) * size + x * scale + j) + 3);
	return decode({ width: size, height: size, data });
})));`, string(in))
	cmd.Dir = "../web"
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &texts)
	}
	if err != nil {
		g.t.Fatalf("%v\n%s", err, &said)
	}
	return texts
}
