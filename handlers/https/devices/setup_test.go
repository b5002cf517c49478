package devices_test

import (
	"fmt"
	"html"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"posthorn/handlers/https/devices"
)

// Each program's instructions name the servers that it can reach.
func TestSetup(t *testing.T) {
	w := newWorld(t)
	a := w.get("/account/keys/setup?client=k9")
	if a.StatusCode != 200 {
		t.Fatal(a.Status)
	}
	details := regexp.MustCompile(`(?s)<details id="(\w+)"( open)?>(.*?)</details>`).FindAllStringSubmatch(a.body, -1)
	if len(details) != 6 {
		t.Fatalf("instructions for %d programs", len(details))
	}
	explicit := map[string]bool{"apple": true, "k9": true}
	for _, d := range details {
		name, open, text := d[1], d[2] != "", strings.Join(strings.Fields(untagged(d[3])), " ")
		for _, want := range []string{"mail.example.org", "993", "465", "alice", "imap.example.org, port 443", "smtp.example.org, port 443"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %q: %s", name, want, text)
			}
		}
		if strings.Contains(text, "(EXTERNAL). One that was not") != explicit[name] {
			t.Errorf("%s: how IMAP begins: %s", name, text)
		}
		if open != (name == "k9") || strings.Contains(text, "{") {
			t.Errorf("%s: open %t: %s", name, open, text)
		}
	}
	for _, row := range []string{"IMAP mail.example.org SSL/TLS with ALPN “imap” 443", "SMTP mail.example.org STARTTLS 587", "IMAP imap.example.org SSL/TLS 443"} {
		if !strings.Contains(a.text(), row) {
			t.Errorf("the table lacks %q: %s", row, a.text())
		}
	}
}

// The profile that asks for a password is for Apple's systems, where there is one.
func TestProfileWithoutKey(t *testing.T) {
	w := newWorld(t)
	for _, profile := range []string{"", "https://example.org/email.mobileconfig?email=alice%40example.org"} {
		w.profile = profile
		a := w.get("/account/keys/setup")
		_, apple, _ := strings.Cut(a.body, `<details id="apple">`)
		apple, _, _ = strings.Cut(apple, "</details>")
		if strings.Contains(apple, ".mobileconfig?") != (profile != "") || strings.Count(a.body, ".mobileconfig?") > 1 ||
			!strings.Contains(apple, `<a href="`+html.EscapeString(profile)+`">`) && profile != "" {
			t.Errorf("%q: %s", profile, apple)
		}
	}
}

// Where mail can only be read, nothing is said of a server that there is none of.
func TestSetupWithoutSubmission(t *testing.T) {
	w := newWorld(t)
	w.ways = servers[:1]
	for _, p := range []string{"/account/keys/setup", "/account/keys/new", "/account/keys/phone"} {
		a := w.get(p)
		if a.StatusCode != 200 || strings.Contains(a.text(), "port 0") || strings.Contains(a.body, "smtp_url") ||
			strings.Contains(a.body, "dclogin") || strings.Contains(a.body, `id="newkey-profile"`) {
			t.Errorf("%s: %s", p, a.text())
		}
	}
}

// Where keys do not log in, the pages say so.
func TestNoKeys(t *testing.T) {
	w := newWorld(t)
	const said = "takes passwords only"
	for _, p := range []string{"/account/keys", "/account/keys/setup"} {
		w.ways = servers
		if strings.Contains(w.get(p).text(), said) {
			t.Errorf("%s says so without reason", p)
		}
		w.ways = []devices.Server{servers[0], {Protocol: devices.Submission, Host: "mail.example.org", Port: 465, NoKeys: true}}
		if !strings.Contains(w.get(p).text(), said) {
			t.Errorf("%s does not say so", p)
		}
	}
}

// mutt reads the settings as they are shown, whatever the address.
func TestMuttrc(t *testing.T) {
	for _, address := range []string{"alice@example.org", "o'brien$`id`&x|z%/?#{}@example.org"} {
		w := worldOf(t, address)
		m := regexp.MustCompile(`(?s)<pre [^>]*aria-label="muttrc">(.*?)</pre>`).FindStringSubmatch(w.get("/account/keys/setup").body)
		if m == nil {
			t.Fatal("there are no settings for mutt")
		}
		rc := filepath.Join(t.TempDir(), "muttrc")
		if err := os.WriteFile(rc, []byte(html.UnescapeString(m[1])), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("mutt", "-n", "-F", rc, "-Q", "imap_user", "-Q", "smtp_url", "-Q", "folder").CombinedOutput()
		u := url.URL{Scheme: "smtps", User: url.User(address), Host: "mail.example.org:465", Path: "/"}
		for _, want := range []string{fmt.Sprintf("imap_user=%q\n", address), fmt.Sprintf("smtp_url=%q\n", u.String()), `folder="imaps://mail.example.org:993/"` + "\n"} {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("mutt does not have %q: %v\n%s", want, err, out)
			}
		}
	}
}

// The page that makes keys has all that its script wants of it, and only there
// is the script.
func TestNewKeyPage(t *testing.T) {
	w := newWorld(t)
	body := w.get("/account/keys/new?client=apple").body
	for _, id := range []string{"newkey", "newkey-make", "newkey-failure", "newkey-made", "newkey-done", "newkey-passphrase",
		"newkey-modern", "newkey-compatible", "newkey-pem", "newkey-profile"} {
		if strings.Count(body, `id="`+id+`"`) != 1 {
			t.Errorf("there is not one #%s", id)
		}
	}
	if !strings.Contains(body, `<option value="apple" selected>`) || !strings.Contains(body, "never leaves it") {
		t.Error(body)
	}
	data := func(name string) string {
		m := regexp.MustCompile(`data-` + name + `="([^"]*)"`).FindStringSubmatch(body)
		if m == nil {
			t.Fatalf("there is no data-%s", name)
		}
		return html.UnescapeString(m[1])
	}
	if p := data("mobileconfig"); strings.Count(p, data("identity")) != 1 || !strings.Contains(p, "<integer>993</integer>") {
		t.Errorf("the profile is\n%s", p)
	}
	if data("address") != "alice@example.org" {
		t.Errorf("for %s", data("address"))
	}
	for _, name := range []string{"unable", "failed", "signedout"} {
		if data(name) == "" {
			t.Errorf("says nothing when %s", name)
		}
	}
}

func TestPhone(t *testing.T) {
	for _, address := range []string{"alice@example.org", "p=&?#+%@example.org"} {
		w := worldOf(t, address)
		body := w.get("/account/keys/phone").body
		m := regexp.MustCompile(`data-login="([^"]*)"`).FindStringSubmatch(body)
		if m == nil || !strings.Contains(body, "<svg") {
			t.Fatal(body)
		}
		u, err := url.Parse(html.UnescapeString(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		want := url.Values{"p": {""}, "v": {"1"}, "ih": {"imap.example.org"}, "ip": {"443"}, "is": {"ssl"}, "sh": {"smtp.example.org"}, "sp": {"443"}, "ss": {"ssl"}}
		who, err := url.PathUnescape(u.Opaque)
		if err != nil || u.Scheme != "dclogin" || who != address || u.Query().Encode() != want.Encode() {
			t.Errorf("%s is for %q (%v): %v", u, who, err, u.Query())
		}
	}
}

// The scripts are small enough for a phone on a bad line.
func TestBundle(t *testing.T) {
	for name, limit := range map[string]int64{"newkey.js": 400_000, "deltachat.js": 50_000} {
		info, err := os.Stat(filepath.Join("assets", name))
		if err != nil || info.Size() > limit {
			t.Errorf("%s: %v, want at most %d bytes", name, info.Size(), limit)
		}
	}
}
