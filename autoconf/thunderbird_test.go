package autoconf_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"posthorn/autoconf"
)

// deployment has every way in.
func deployment() autoconf.Deployment {
	service := func(name string, tls, startTLS uint16) autoconf.Service {
		return autoconf.Service{SharedPort: 443, SharedName: name, Host: "mail.example.org", TLSPort: tls, StartTLSPort: startTLS, Keys: true}
	}
	return autoconf.Deployment{
		Domain: "example.org", IMAP: service("imap.example.org", 993, 143), Submission: service("smtp.example.org", 465, 587),
	}
}

// What Thunderbird makes of a document: each server as HOST:PORT, security and
// authentication.
func TestThunderbird(t *testing.T) {
	only := func(s autoconf.Service) autoconf.Service {
		return autoconf.Service{SharedPort: s.SharedPort, SharedName: s.SharedName}
	}
	for name, c := range map[string]struct {
		edit               func(*autoconf.Deployment)
		display            string
		incoming, outgoing []string
	}{
		"everything": {
			func(*autoconf.Deployment) {}, "example.org",
			[]string{"imap.example.org:443 SSL password-cleartext", "mail.example.org:993 SSL password-cleartext", "mail.example.org:143 STARTTLS password-cleartext"},
			[]string{"smtp.example.org:443 SSL password-cleartext", "mail.example.org:465 SSL password-cleartext", "mail.example.org:587 STARTTLS password-cleartext"},
		},
		"443 alone": {
			func(d *autoconf.Deployment) {
				d.IMAP, d.Submission, d.Name = only(d.IMAP), only(d.Submission), "Müller & <Söhne>"
			}, "Müller & <Söhne>",
			[]string{"imap.example.org:443 SSL password-cleartext"}, []string{"smtp.example.org:443 SSL password-cleartext"},
		},
		"dedicated ports alone": {
			func(d *autoconf.Deployment) {
				d.IMAP.SharedPort, d.Submission.SharedPort, d.IMAP.StartTLSPort, d.Submission.StartTLSPort = 0, 0, 0, 0
			}, "example.org",
			[]string{"mail.example.org:993 SSL password-cleartext"}, []string{"mail.example.org:465 SSL password-cleartext"},
		},
	} {
		d := deployment()
		c.edit(&d)
		got, err := readAsThunderbird(d.Thunderbird())
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, d.Thunderbird())
			continue
		}
		if got.id != "example.org" || got.display != c.display || !slices.Equal(got.domains, []string{"example.org"}) ||
			!slices.Equal(got.incoming, c.incoming) || !slices.Equal(got.outgoing, c.outgoing) {
			t.Errorf("%s: Thunderbird understands %+v", name, got)
		}
	}
}

// A client that knows client certificates is told of them, after the password,
// which everybody knows.
func TestKeysAreOffered(t *testing.T) {
	d := deployment()
	d.Submission.Keys = false
	text := string(d.Thunderbird())
	const both = "<authentication>password-cleartext</authentication>\n      <authentication>TLS-client-cert</authentication>"
	incoming, outgoing, _ := strings.Cut(text, "<outgoingServer")
	if strings.Count(incoming, both) != 3 || strings.Contains(outgoing, "TLS-client-cert") {
		t.Errorf("got %s", text)
	}
}

// A domain with an underscore is Delta Chat's alone, which believes self-signed
// certificates only under names that begin with one, and offers ALPN.
func TestSharedName(t *testing.T) {
	d := deployment()
	d.Domain = "_relay.example.org"
	if s := d.IMAPServers()[0]; s.Host != "_relay.example.org" || s.Port != 443 {
		t.Errorf("IMAP is at %v", s)
	}
	d.Submission.SharedName = "_smtp.example.org"
	if s := d.SubmissionServers()[0]; s.Host != "_smtp.example.org" {
		t.Errorf("submission is at %v", s)
	}
	d.Domain, d.ALPN = "example.org", true
	if imap, submission := d.IMAPServers()[0].Host, d.SubmissionServers()[0].Host; imap != "example.org" || submission != "example.org" {
		t.Errorf("with ALPN the shared port is at %s and %s", imap, submission)
	}
	d.IMAP.SharedName = ""
	if s := d.IMAPServers()[0]; s.Host != "mail.example.org" {
		t.Errorf("without a shared port IMAP is at %v", s)
	}
}

// Where mail can only be read or only be handed in, no program could be set up.
func TestHalfADeployment(t *testing.T) {
	for _, half := range []autoconf.Deployment{{Domain: "a.test", IMAP: deployment().IMAP}, {Domain: "a.test", Submission: deployment().Submission}, {}} {
		if half.Thunderbird() != nil || half.Outlook("me@a.test") != nil {
			t.Errorf("%+v has a document", half)
		}
	}
}

// understood is what Thunderbird takes from a document.
type understood struct {
	id, display        string
	domains            []string
	incoming, outgoing []string
}

// element is an element of XML as JXON gives it to Thunderbird's readFromXML.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element  `xml:",any"`
}

func (e *element) all(name string) (found []element) {
	for _, c := range e.Children {
		if c.XMLName.Local == name {
			found = append(found, c)
		}
	}
	return found
}

func (e *element) text(name string) string {
	for _, c := range e.all(name) {
		return c.Text
	}
	return ""
}

func (e *element) attr(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

var legalHost = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// readAsThunderbird takes from a document what Thunderbird does, by the rules of
// its accountcreation/modules/readFromXML.sys.mjs, and is strict beyond them: it
// refuses elements and values of which Thunderbird would know nothing, but for
// further authentications, and servers that Thunderbird would leave out.
func readAsThunderbird(text []byte) (*understood, error) {
	var root element
	d := xml.NewDecoder(strings.NewReader(strings.TrimSpace(string(text))))
	if err := d.Decode(&root); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something stands behind the document")
	}
	providers := root.all("emailProvider")
	if root.XMLName.Local != "clientConfig" || root.attr("version") != "1.1" || len(providers) != 1 || len(root.Children) != 1 {
		return nil, errors.New("not a clientConfig of one emailProvider")
	}
	p := &providers[0]
	u := &understood{id: p.attr("id"), display: p.text("displayName")}
	if !legalHost.MatchString(u.id) || u.display == "" || p.text("displayShortName") == "" {
		return nil, fmt.Errorf("id %q, names %q and %q", u.id, u.display, p.text("displayShortName"))
	}
	for _, c := range p.Children {
		var err error
		switch c.XMLName.Local {
		case "domain":
			u.domains = append(u.domains, c.Text)
		case "displayName", "displayShortName":
		case "incomingServer":
			u.incoming, err = appendServer(u.incoming, &c, "imap")
		case "outgoingServer":
			u.outgoing, err = appendServer(u.outgoing, &c, "smtp")
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.XMLName.Local, err)
		}
	}
	if len(u.domains) == 0 || len(u.incoming) == 0 || len(u.outgoing) == 0 {
		return nil, errors.New("a domain and servers of both kinds are needed")
	}
	return u, nil
}

func appendServer(all []string, s *element, kind string) ([]string, error) {
	port, err := strconv.ParseUint(s.text("port"), 10, 16)
	security := s.text("socketType")
	authentication := ""
	for _, a := range s.all("authentication") { // the first that it knows
		if authentication == "" && slices.Contains([]string{"password-cleartext", "password-encrypted", "GSSAPI", "NTLM", "OAuth2"}, a.Text) {
			authentication = a.Text
		}
	}
	var names []string
	for _, c := range s.Children {
		names = append(names, c.XMLName.Local)
	}
	inOrder := slices.Equal(slices.Compact(names), []string{"hostname", "port", "socketType", "authentication", "username"})
	switch {
	case s.attr("type") != kind, err != nil || port == 0, !legalHost.MatchString(s.text("hostname")),
		security != "SSL" && security != "STARTTLS", authentication == "", s.text("username") != "%EMAILADDRESS%", !inOrder:
		return all, fmt.Errorf("is not a server: %+v", s)
	}
	return append(all, fmt.Sprintf("%s:%d %s %s", s.text("hostname"), port, security, authentication)), nil
}
