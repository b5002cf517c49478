package devices_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"html"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/crypto/ssh"

	"posthorn/mux/muxtest"
)

// pre returns the text of an element, as somebody copies it.
func pre(t *testing.T, body, id string) string {
	t.Helper()
	m := regexp.MustCompile(`(?s)<pre id="` + id + `"[^>]*>(.*?)</pre>`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("there is no %s in\n%s", id, body)
	}
	return html.UnescapeString(m[1])
}

// The commands as the page shows them, in a shell, make what the form takes,
// whatever address they are for.
func TestCommands(t *testing.T) {
	for name, tt := range map[string]struct{ address, device string }{
		"usual":       {"alice@example.org", "laptop"},
		"shell":       {"o'brien$`id`&x|z@example.org", "x"},
		"every sign":  {"!#$%&'*+-/=?^_`{|}~@example.org", `"; rm -rf ~; '$(id)`},
		"openssl":     {"a/cn=b+c=d/x@example.org", "../../etc/passwd"},
		"unicode":     {"jürgen.müller@example.org", "Jürgens Rechner"},
		"long":        {strings.Repeat("x", 64) + "@example.org", strings.Repeat("y", 100)},
		"no name":     {"-@example.org", ""},
		"an option":   {"-out@example.org", "-rf"},
		"only spaces": {"a@example.org", "   "},
	} {
		t.Run(name, func(t *testing.T) {
			w := worldOf(t, tt.address)
			body := w.get("/account/keys/by-hand?" + url.Values{"name": {tt.device}}.Encode()).body
			for _, id := range []string{"openssl", "openssl-compatible"} {
				certificate := runShown(t, pre(t, body, id))
				block, _ := pem.Decode(certificate)
				cert, err := x509.ParseCertificate(block.Bytes)
				if err != nil {
					t.Fatal(err)
				}
				want := []rune(tt.address)
				if got := cert.Subject.CommonName; got != string(want[:min(len(want), 64)]) {
					t.Errorf("the certificate is for %q", got)
				}
				if cert.IsCA || len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
					t.Errorf("CA %t, usages %v", cert.IsCA, cert.ExtKeyUsage)
				}
				if a := w.upload(certificate, url.Values{"name": {id}}); !strings.Contains(a.text(), "The key "+id+" has been added.") {
					t.Errorf("%s: %s", a.Status, a.text())
				}
			}
		})
	}
}

// runShown runs commands in an empty directory, where nobody has a terminal, and
// returns the certificate that they make.
func runShown(t *testing.T, commands string) []byte {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("setsid", "sh", "-euc", commands) // no terminal: openssl reads the passphrase from stdin
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader("secret\nsecret\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, commands, out)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(made) != 3 {
		t.Fatalf("made %v, %v; want a key, a certificate and both", made, err)
	}
	p12 := made[2]
	info := exec.Command("openssl", "pkcs12", "-in", p12, "-passin", "pass:secret", "-nodes")
	if out, err := info.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PRIVATE KEY")) {
		t.Errorf("openssl reads %s: %v\n%s", p12, err, out)
	}
	certificate, err := os.ReadFile(made[0])
	if err != nil || filepath.Ext(made[0]) != ".crt" {
		t.Fatal(made[0], err)
	}
	return certificate
}

// Every form of a public key is taken, by upload and by paste.
func TestForms(t *testing.T) {
	w := newWorld(t)
	forms := map[string]func() []byte{
		"certificate": func() []byte { _, c := newKey(t); return []byte(c) },
		"DER":         func() []byte { return muxtest.KeyPair(t).Certificate[0] },
		"public key": func() []byte {
			return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(t, muxtest.KeyPair(t))})
		},
		"OpenSSH": func() []byte { return openssh(t) },
		"CRLF, text around": func() []byte {
			_, c := newKey(t)
			return []byte("Subject: x\r\n" + strings.ReplaceAll(c, "\n", "\r\n"))
		},
	}
	n := 0
	for name, form := range forms {
		for _, how := range []string{"upload", "paste"} {
			if how == "paste" && name == "DER" {
				continue
			}
			fields := url.Values{"name": {name + " by " + how}, "client": {"k9"}}
			var a *answer
			if how == "upload" {
				a = w.upload(form(), fields)
			} else {
				fields.Set("public_key", string(form()))
				a = w.post("/account/keys", fields)
			}
			n++
			if keys := w.keys(w.alice); a.StatusCode != http.StatusOK || len(keys) != n || !keys[0].NoPreauth {
				t.Errorf("%s by %s: %s, %d keys", name, how, a.Status, len(keys))
			}
		}
	}
}

func openssh(t *testing.T) []byte {
	t.Helper()
	key, err := x509.ParsePKIXPublicKey(spki(t, muxtest.KeyPair(t)))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.MarshalAuthorizedKey(pub)
}

// A file that is none of those is refused with what to do about it; one with a
// private key is neither shown again, nor stored or logged.
func TestWrongFiles(t *testing.T) {
	w := newWorld(t)
	pair, certificate := newKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	secret := strings.Split(private, "\n")[1]
	const exposed = "think of it as exposed"
	for name, tt := range map[string]struct{ file, want string }{
		"nothing":                {"", "Choose a file, or paste"},
		"spaces":                 {" \r\n\t", "Choose a file, or paste"},
		"private key":            {private, exposed},
		"certificate and key":    {certificate + private, exposed},
		"key and certificate":    {private + certificate, exposed},
		"key cut off":            {private[:len(private)-30], exposed},
		"key without head":       {private[20:], exposed},
		"key, encrypted":         {strings.ReplaceAll(private, "PRIVATE", "ENCRYPTED PRIVATE"), exposed},
		"OpenSSH key":            {strings.ReplaceAll(private, "PRIVATE", "OPENSSH PRIVATE"), exposed},
		"PuTTY key":              {"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n" + secret, exposed},
		"JWK":                    {`{"kty":"EC","d":"` + secret + `"}`, exposed},
		"key in UTF-16":          {utf16le(private), exposed},
		"key in DER":             {string(der), exposed},
		"p12":                    {p12(t, private, certificate), "This is a .p12 file"},
		"request":                {"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "This is a certificate request"},
		"certificate cut off":    {certificate[:100], "The end is missing"},
		"certificate in UTF-16":  {utf16le(certificate), "The text is in UTF-16"},
		"certificate, malformed": {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "There is no certificate or public key in this"},
		"picture":                {"\x89PNG\r\n\x1a\n\x00\x00", "There is no certificate or public key in this"},
		"letter":                 {"Dear Alice,\nhow are you?", "There is no certificate or public key in this"},
		"HTML":                   {`"><script>alert(1)</script>`, "There is no certificate or public key in this"},
		"PGP":                    {"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n", "There is no certificate or public key in this"},
		"DSA":                    {"ssh-dss AAAAB3NzaC1kc3MAAAAAAAAAAAAAAAAAAAAA x", "There is no certificate or public key in this"},
		"weak RSA":               {string(testdata(t, "rsa1024.pub.pem")), "Keys of type RSA 1024 are not accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			for how, a := range map[string]*answer{
				"upload": w.upload([]byte(tt.file), nil),
				"paste":  w.post("/account/keys", url.Values{"public_key": {tt.file}}),
			} {
				if a.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(a.text(), tt.want) {
					t.Errorf("%s: %s, want %q: %s", how, a.Status, tt.want, a.text())
				}
				if strings.Contains(a.body, secret) || strings.Contains(a.body, "<script>alert") {
					t.Errorf("%s: comes back in the page", how)
				}
			}
		})
	}
	if keys := w.keys(w.alice); len(keys) != 0 {
		t.Errorf("registered %+v", keys)
	}
	if strings.Contains(w.log.String(), secret) {
		t.Error("a private key is in the log")
	}
	events, err := w.Audit(t.Context(), operator, 0)
	if err != nil || len(events) == 0 {
		t.Fatal(events, err)
	}
	for _, ev := range events {
		if ev.Action == "key add" {
			t.Errorf("recorded %+v", ev)
		}
	}
}

// What is larger than the form takes is refused before it is read.
func TestTooLarge(t *testing.T) {
	w := newWorld(t)
	for how, send := range map[string]func([]byte) *answer{
		"upload": func(b []byte) *answer { return w.upload(b, nil) },
		"paste":  func(b []byte) *answer { return w.post("/account/keys", url.Values{"public_key": {string(b)}}) },
	} {
		if a := send(bytes.Repeat([]byte("x"), 65<<10)); a.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %s", how, a.Status)
		}
	}
	for _, contentType := range []string{"multipart/form-data", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"} {
		a := w.do(w.request("POST", "/account/keys", strings.NewReader("%zz"), "Content-Type", contentType))
		if a.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", contentType, a.Status)
		}
	}
}

// What newkey.ts sends and is told.
func TestScript(t *testing.T) {
	w := newWorld(t)
	_, certificate := newKey(t)
	json := []string{"Accept", "application/json"}
	form := url.Values{"public_key": {certificate}, "name": {"my phone"}, "client": {"apple"}}
	first := w.post("/account/keys", form, json...)
	fingerprint := strings.TrimPrefix(w.keys(w.alice)[0].Fingerprint.String(), "SHA256:")
	want := `{"page":"/account/keys/` + fingerprint + `","file":"alice-my-phone","label":"alice@example.org, my phone"}`
	if first.StatusCode != http.StatusCreated || strings.TrimSpace(first.body) != want || first.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s, want %s", first.Status, first.body, want)
	}
	// Again, because the answer was lost or the button pressed twice.
	if again := w.post("/account/keys", form, json...); again.StatusCode != http.StatusCreated || again.body != first.body {
		t.Errorf("twice: %s %s", again.Status, again.body)
	}
	if keys := w.keys(w.alice); len(keys) != 1 || !keys[0].NoPreauth {
		t.Errorf("registered %+v", keys)
	}
	_, another := newKey(t)
	refused := w.post("/account/keys", url.Values{"public_key": {another}, "name": {"\x00"}}, json...)
	if refused.StatusCode != http.StatusUnprocessableEntity || strings.TrimSpace(refused.body) != `{"error":"A name has 1 to 100 characters, all of them visible."}` {
		t.Errorf("%s %s", refused.Status, refused.body)
	}
	// One without a name is called after its program.
	w.post("/account/keys", url.Values{"public_key": {another}, "client": {"thunderbird"}}, json...)
	if keys := w.keys(w.alice); len(keys) != 2 || keys[0].Name != "Thunderbird" && keys[1].Name != "Thunderbird" {
		t.Errorf("registered %+v", keys)
	}
}

func utf16le(s string) string {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return string(b)
}

// p12 packs a key by openssl.
func p12(t *testing.T, private, certificate string) string {
	t.Helper()
	cmd := exec.Command("openssl", "pkcs12", "-export", "-passout", "pass:x")
	cmd.Stdin = strings.NewReader(private + certificate)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
