package autoconf_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"strings"
	"testing"
	"time"

	"posthorn/autoconf"
)

// request is what Outlook sends, with something about it changed.
func request(changes ...string) string {
	return strings.NewReplacer(changes...).Replace(`<?xml version="1.0" encoding="utf-8"?>
<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
  <Request>
    <EMailAddress>me@example.org</EMailAddress>
    <AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema>
  </Request>
</Autodiscover>`)
}

func TestReadRequest(t *testing.T) {
	const bomb = `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>`
	for name, c := range map[string]struct {
		body, address string
		err           error
	}{
		"Outlook":               {request(), "me@example.org", nil},
		"a byte order mark":     {"\ufeff" + request(), "me@example.org", nil},
		"references":            {request("me@", "m&#x65;&amp;&lt;@"), "me&<@example.org", nil},
		"CDATA and comment":     {request("me@", "<![CDATA[me]]><!-- me --> @"), "me @example.org", nil},
		"prefixes":              {`<a:Autodiscover xmlns:a="b"><a:Request><a:EMailAddress> x@y </a:EMailAddress></a:Request></a:Autodiscover>`, "x@y", nil},
		"ActiveSync":            {request("outlook/responseschema/2006a", "mobilesync/responseschema/2006"), "", autoconf.ErrSchema},
		"nobody":                {request("me@example.org", " "), "", autoconf.ErrRequest},
		"in the wrong place":    {`<Autodiscover><EMailAddress>a@b</EMailAddress></Autodiscover>`, "", autoconf.ErrRequest},
		"nothing":               {"", "", autoconf.ErrRequest},
		"no XML":                {"EMailAddress=me@example.org", "", autoconf.ErrRequest},
		"cut off":               {request()[:200], "", autoconf.ErrRequest},
		"document type":         {bomb + request("me@", "&b;@"), "", autoconf.ErrRequest},
		"document type, unused": {`<!DOCTYPE x SYSTEM "file:///etc/passwd">` + request(), "", autoconf.ErrRequest},
		"entity":                {request("me@", "&me;@"), "", autoconf.ErrRequest},
		"another charset":       {request("utf-8", "utf-16"), "", autoconf.ErrRequest},
		"deep":                  {strings.Repeat("<a>", 100_000), "", autoconf.ErrRequest},
		"long":                  {request("me@", strings.Repeat("m", autoconf.MaxRequest)+"@"), "", autoconf.ErrRequest},
		"long behind the end":   {request() + strings.Repeat(" ", autoconf.MaxRequest), "", autoconf.ErrRequest},
		"many attributes":       {strings.Replace(request(), "<Request>", "<Request "+strings.Repeat(`a="b" `, 1000)+">", 1), "me@example.org", nil},
		"control characters":    {request("me@", "me&#0;@"), "", autoconf.ErrRequest},
	} {
		address, err := autoconf.ReadRequest(strings.NewReader(c.body))
		if address != c.address || !errors.Is(err, c.err) {
			t.Errorf("%s: got %q, %v", name, address, err)
		}
	}
}

// endless is a request that never ends.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "<a>"[(e.read+i)%3]
	}
	e.read += len(p)
	return len(p), nil
}

func TestRequestIsBounded(t *testing.T) {
	var e endless
	if _, err := autoconf.ReadRequest(&e); !errors.Is(err, autoconf.ErrRequest) || e.read > 2*autoconf.MaxRequest {
		t.Errorf("%v after %d octets", err, e.read)
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, seed := range []string{request(), "", "<", "<!DOCTYPE a>", "<a>&b;</a>", request("me@", "<![CDATA[x]]>"), "\xff\xfe<\x00", `<?xml version="1.1"?><a/>`} {
		f.Add(seed)
	}
	d := deployment()
	f.Fuzz(func(t *testing.T, body string) {
		address, err := autoconf.ReadRequest(strings.NewReader(body))
		if (err == nil) != (address != "") {
			t.Fatalf("%q, %v", address, err)
		}
		// Whatever it is, it does not get out of its place in the answer.
		var answer struct {
			Protocols []struct{ LoginName string } `xml:"Response>Account>Protocol"`
		}
		if err := xml.Unmarshal(d.Outlook(address), &answer); err != nil || len(answer.Protocols) != 6 {
			t.Fatalf("%v, %d protocols", err, len(answer.Protocols))
		}
	})
}

func TestOutlook(t *testing.T) {
	d := deployment()
	var answer struct {
		XMLName  xml.Name `xml:"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006 Autodiscover"`
		Response struct {
			XMLName   xml.Name `xml:"http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a Response"`
			Type      string   `xml:"Account>AccountType"`
			Action    string   `xml:"Account>Action"`
			Protocols []struct {
				Type, Server, LoginName, SSL, Encryption, SPA, AuthRequired string
				Port                                                        int
			} `xml:"Account>Protocol"`
		}
	}
	if err := xml.Unmarshal(d.Outlook("me&<you>@example.org"), &answer); err != nil {
		t.Fatal(err)
	}
	r := answer.Response
	if r.Type != "email" || r.Action != "settings" || len(r.Protocols) != 6 {
		t.Fatalf("got %+v", r)
	}
	for i, want := range []struct {
		kind, host string
		port       int
		encryption string
	}{
		{"IMAP", "imap.example.org", 443, "SSL"}, {"IMAP", "mail.example.org", 993, "SSL"}, {"IMAP", "mail.example.org", 143, "TLS"},
		{"SMTP", "smtp.example.org", 443, "SSL"}, {"SMTP", "mail.example.org", 465, "SSL"}, {"SMTP", "mail.example.org", 587, "TLS"},
	} {
		p := r.Protocols[i]
		if p.Type != want.kind || p.Server != want.host || p.Port != want.port || p.Encryption != want.encryption ||
			p.SSL != "on" || p.SPA != "off" || p.AuthRequired != "on" || p.LoginName != "me&<you>@example.org" {
			t.Errorf("got %+v, want %+v", p, want)
		}
	}
	if strings.Contains(string(d.Outlook("")), "LoginName") {
		t.Error("somebody is told to log in as nobody")
	}
}

func TestOutlookError(t *testing.T) {
	for err, want := range map[error]int{autoconf.ErrRequest: 600, autoconf.ErrSchema: 601, nil: 500} {
		var answer struct {
			Code int `xml:"Response>Error>ErrorCode"`
		}
		if e := xml.Unmarshal(autoconf.OutlookError(err), &answer); e != nil || answer.Code != want {
			t.Errorf("%v: got %d, %v", err, answer.Code, e)
		}
	}
}

func TestOutlookV2(t *testing.T) {
	const url = "https://example.org/autodiscover/autodiscover.xml"
	for protocol, want := range map[string]map[string]string{
		"AutodiscoverV1": {"Protocol": "AutodiscoverV1", "Url": url},
		"autodiscoverv1": {"Protocol": "AutodiscoverV1", "Url": url},
		"ActiveSync":     {"ErrorCode": "InvalidProtocol"},
		"":               {"ErrorCode": "MandatoryParameterMissing"},
	} {
		text, ok := autoconf.OutlookV2(protocol, url)
		var got map[string]string
		if err := json.Unmarshal(text, &got); err != nil || ok != (want["Url"] != "") {
			t.Errorf("%q: %v, %v", protocol, ok, err)
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%q: %s is %q", protocol, k, got[k])
			}
		}
	}
}

func TestPolicy(t *testing.T) {
	p := &autoconf.Policy{Mode: autoconf.Enforce, MX: []string{"mx.example.org", "*.example.net"}, MaxAge: 7 * 24 * time.Hour}
	const want = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmx: *.example.net\r\nmax_age: 604800\r\n"
	if got := string(p.Text()); got != want {
		t.Errorf("got %q", got)
	}
}

func TestSecurityTXT(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	good := func() *autoconf.SecurityTXT {
		return &autoconf.SecurityTXT{
			Contact: []string{"mailto:security@example.org", "https://example.org/report"}, Expires: now.AddDate(1, 0, 0),
			Languages: []string{"en", "de-CH"}, Policy: []string{"https://example.org/policy"},
			Encryption: []string{"openpgp4fpr:5f2de5521c63a801ab59ccb603d49de44b29100f"},
		}
	}
	const want = "Contact: mailto:security@example.org\r\nContact: https://example.org/report\r\nExpires: 2027-11-22T12:00:00Z\r\n" +
		"Encryption: openpgp4fpr:5f2de5521c63a801ab59ccb603d49de44b29100f\r\nPreferred-Languages: en, de-CH\r\nPolicy: https://example.org/policy\r\n"
	if got := string(good().Text()); got != want {
		t.Errorf("got %q", got)
	}
	if field, err := good().Check(now); err != nil {
		t.Errorf("%s %v", field, err)
	}
	for name, c := range map[string]struct {
		edit  func(*autoconf.SecurityTXT)
		field string
		err   error // nil: any
	}{
		"over":             {func(s *autoconf.SecurityTXT) { s.Expires = now }, "expires", autoconf.ErrExpired},
		"far":              {func(s *autoconf.SecurityTXT) { s.Expires = now.AddDate(1, 0, 2) }, "expires", autoconf.ErrFarExpiry},
		"never":            {func(s *autoconf.SecurityTXT) { s.Expires = time.Time{} }, "expires", nil},
		"nobody":           {func(s *autoconf.SecurityTXT) { s.Contact = nil }, "contact", nil},
		"no URI":           {func(s *autoconf.SecurityTXT) { s.Contact[1] = "security@example.org" }, "contact", nil},
		"in the clear":     {func(s *autoconf.SecurityTXT) { s.Policy[0] = "http://example.org/policy" }, "policy", nil},
		"a further line":   {func(s *autoconf.SecurityTXT) { s.Contact[0] = "mailto:a@example.org\r\nContact: mailto:b@example.org" }, "contact", nil},
		"a language alike": {func(s *autoconf.SecurityTXT) { s.Languages[0] = "en\nHiring: x" }, "preferred-languages", nil},
	} {
		s := good()
		c.edit(s)
		field, err := s.Check(now)
		if field != c.field || err == nil || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v", name, field, err)
		}
	}
}
