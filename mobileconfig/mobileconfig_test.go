package mobileconfig_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"posthorn/mobileconfig"
)

func example() *mobileconfig.Profile {
	return &mobileconfig.Profile{
		Host: "mail.example.org", Name: "Mail at example.org", Organization: "example.org", Address: "alice@example.org",
		IMAP:       mobileconfig.Server{Host: "imap.example.org", Port: 443},
		Submission: mobileconfig.Server{Host: "mail.example.org", Port: 465},
		Identity:   &mobileconfig.Identity{Name: "alice-phone", PKCS12: []byte{0, 1, 254, 255}},
	}
}

func TestProfile(t *testing.T) {
	got := parse(t, example().Encode())
	payloads := got["PayloadContent"].([]any)
	delete(got, "PayloadContent")
	account := strings.TrimPrefix(got["PayloadIdentifier"].(string), "org.example.mail.posthorn.")
	if !regexp.MustCompile(`^[0-9a-f]{8}$`).MatchString(account) {
		t.Errorf("identifier %q", got["PayloadIdentifier"])
	}
	id := "org.example.mail.posthorn." + account
	uuids := takeUUIDs(t, append(payloads, got))
	if len(uuids) != 3 {
		t.Errorf("UUIDs %v, want three different ones", uuids)
	}
	want := map[string]any{"PayloadType": "Configuration", "PayloadVersion": 1, "PayloadIdentifier": id,
		"PayloadDisplayName": "Mail at example.org", "PayloadOrganization": "example.org"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("profile (-want +got):\n%s", diff)
	}
	wantPayloads := []any{
		map[string]any{"PayloadType": "com.apple.mail.managed", "PayloadVersion": 1, "PayloadIdentifier": id + ".mail",
			"PayloadDisplayName": "Mail at example.org", "EmailAccountType": "EmailTypeIMAP",
			"EmailAccountDescription": "Mail at example.org", "EmailAddress": "alice@example.org",
			"IncomingMailServerHostName": "imap.example.org", "IncomingMailServerPortNumber": 443,
			"IncomingMailServerUseSSL": true, "IncomingMailServerUsername": "alice@example.org",
			"IncomingMailServerAuthentication": "EmailAuthNone",
			"OutgoingMailServerHostName":       "mail.example.org", "OutgoingMailServerPortNumber": 465,
			"OutgoingMailServerUseSSL": true, "OutgoingMailServerUsername": "alice@example.org",
			"OutgoingMailServerAuthentication":       "EmailAuthNone",
			"OutgoingPasswordSameAsIncomingPassword": true},
		map[string]any{"PayloadType": "com.apple.security.pkcs12", "PayloadVersion": 1, "PayloadIdentifier": id + ".identity",
			"PayloadDisplayName": "alice-phone", "PayloadCertificateFileName": "alice-phone.p12",
			"PayloadContent": []byte{0, 1, 254, 255}},
	}
	if diff := cmp.Diff(wantPayloads, payloads); diff != "" {
		t.Errorf("payloads (-want +got):\n%s", diff)
	}
}

func TestProfileWithoutIdentity(t *testing.T) {
	p := example()
	p.Identity, p.Address = nil, ""
	payloads := parse(t, p.Encode())["PayloadContent"].([]any)
	if len(payloads) != 1 {
		t.Fatalf("%d payloads, want the account alone", len(payloads))
	}
	mail := payloads[0].(map[string]any)
	if mail["IncomingMailServerAuthentication"] != "EmailAuthPassword" || mail["OutgoingMailServerAuthentication"] != "EmailAuthPassword" {
		t.Errorf("does not ask for a password: %v", mail)
	}
	for key := range mail {
		if strings.HasSuffix(key, "Username") || key == "EmailAddress" {
			t.Errorf("%s is there, so the device does not ask", key)
		}
	}
}

func TestIdentifiersAreStable(t *testing.T) {
	if a, b := example().Encode(), example().Encode(); !bytes.Equal(a, b) {
		t.Error("the same profile is not the same twice")
	}
	uuids := make(map[string]int)
	for _, change := range []func(*mobileconfig.Profile){
		func(*mobileconfig.Profile) {},
		func(p *mobileconfig.Profile) { p.Identity = nil },
		func(p *mobileconfig.Profile) { p.IMAP.Port = 993 },
		func(p *mobileconfig.Profile) { p.Address = "bob@example.org" },
		func(p *mobileconfig.Profile) { p.Host = "mail.example.com" },
	} {
		p := example()
		change(p)
		uuids[parse(t, p.Encode())["PayloadUUID"].(string)]++
	}
	var counts []int
	for _, n := range uuids {
		counts = append(counts, n)
	}
	if len(uuids) != 3 || counts[0]+counts[1]+counts[2] != 5 {
		t.Errorf("profiles of each UUID: %v; want one for each host and address", uuids)
	}
}

// A placeholder is found once, and what replaces it is the identity.
func TestPlaceholder(t *testing.T) {
	p := example()
	p.Identity.PKCS12 = []byte("to be filled in")
	filled := strings.Replace(string(p.Encode()), mobileconfig.Placeholder(p.Identity.PKCS12), base64.StdEncoding.EncodeToString([]byte("real")), 1)
	payloads := parse(t, []byte(filled))["PayloadContent"].([]any)
	if got := payloads[1].(map[string]any)["PayloadContent"]; !cmp.Equal(got, []byte("real")) {
		t.Errorf("identity %q", got)
	}
}

// Python's plistlib reads property lists for a living.
func TestWithPlistlib(t *testing.T) {
	p := example()
	p.Name = hostile
	cmd := exec.Command("python3", "-c", `import json, plistlib, sys
p = plistlib.loads(sys.stdin.buffer.read())
json.dump([p["PayloadDisplayName"], p["PayloadContent"][0]["IncomingMailServerPortNumber"], p["PayloadContent"][1]["PayloadContent"].hex()], sys.stdout)`)
	cmd.Stdin = bytes.NewReader(p.Encode())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("plistlib: %v", err)
	}
	var got []any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{hostile, 443.0, "0001feff"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

const hostile = `</string><key>x</key>]]> & <!-- "quoted' ` + "\u202e" + ` &amp; &#0;` + "\n\t"

// FuzzTexts: whatever the texts are, a profile is a property list that says them.
func FuzzTexts(f *testing.F) {
	f.Add("Mail", "alice@example.org", "mail.example.org")
	f.Add(hostile, hostile, hostile)
	f.Add("\x00\xff\ufffe", "", "")
	f.Fuzz(func(t *testing.T, name, address, host string) {
		p := example()
		p.Name, p.Address, p.Host, p.Identity.Name = name, address, host, name
		got := parse(t, p.Encode())
		if want := carried(name); got["PayloadDisplayName"] != want {
			t.Errorf("name %q, want %q", got["PayloadDisplayName"], want)
		}
		mail := got["PayloadContent"].([]any)[0].(map[string]any)
		if want := carried(address); address != "" && mail["EmailAddress"] != want {
			t.Errorf("address %q, want %q", mail["EmailAddress"], want)
		}
	})
}

// carried is what XML can carry of a text (XML 1.0 section 2.2).
func carried(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch {
		case r == '\t', r == '\n', r == '\r', r >= ' ' && r < 0xfffe, r > 0xffff:
			b.WriteRune(r)
		default:
			b.WriteRune(utf8.RuneError)
		}
	}
	return b.String()
}

// takeUUIDs removes the UUIDs of payloads and returns the different ones.
func takeUUIDs(t *testing.T, payloads []any) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	for _, p := range payloads {
		d := p.(map[string]any)
		u, _ := d["PayloadUUID"].(string)
		if !regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-5[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$`).MatchString(u) {
			t.Errorf("UUID %q is none of version 5", u)
		}
		all[u] = true
		delete(d, "PayloadUUID")
	}
	return all
}

// parse reads a property list.
func parse(t *testing.T, b []byte) map[string]any {
	t.Helper()
	dec := xml.NewDecoder(bytes.NewReader(b))
	for {
		tok, err := dec.Token()
		if err != nil {
			t.Fatalf("%v in:\n%s", err, b)
		}
		if start, ok := tok.(xml.StartElement); ok && start.Name.Local == "dict" {
			v, err := value(dec, start)
			if err != nil {
				t.Fatalf("%v in:\n%s", err, b)
			}
			return v.(map[string]any)
		}
	}
}

func value(dec *xml.Decoder, start xml.StartElement) (any, error) {
	switch kind := start.Name.Local; kind {
	case "dict", "array":
		items, err := children(dec)
		if err != nil || kind == "array" {
			return items, err
		}
		d := make(map[string]any)
		for i := 0; i+1 < len(items); i += 2 {
			key := string(items[i].(plistKey))
			if _, twice := d[key]; twice {
				return nil, fmt.Errorf("key %s twice", key)
			}
			d[key] = items[i+1]
		}
		return d, nil
	default:
		var text string
		if err := dec.DecodeElement(&text, &start); err != nil {
			return nil, err
		}
		switch kind {
		case "key":
			return plistKey(text), nil
		case "string":
			return text, nil
		case "integer":
			return strconv.Atoi(text)
		case "true", "false":
			return kind == "true", nil
		case "data":
			return base64.StdEncoding.DecodeString(text)
		}
		return nil, fmt.Errorf("element %s", kind)
	}
}

type plistKey string

func children(dec *xml.Decoder) ([]any, error) {
	items := []any{}
	for {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			v, err := value(dec, tok)
			if err != nil {
				return nil, err
			}
			items = append(items, v)
		case xml.EndElement:
			return items, nil
		}
	}
}
