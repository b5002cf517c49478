package autoconf

import (
	"bytes"
	"encoding/xml"
)

// clientConfig is Thunderbird's document, version 1.1 (draft-ietf-mailmaint-autoconfig).
type clientConfig struct {
	XMLName  xml.Name      `xml:"clientConfig"`
	Version  string        `xml:"version,attr"`
	Provider emailProvider `xml:"emailProvider"`
}

type emailProvider struct {
	ID        string       `xml:"id,attr"`
	Domain    string       `xml:"domain"`
	Name      string       `xml:"displayName"`
	ShortName string       `xml:"displayShortName"`
	Incoming  []mailServer `xml:"incomingServer"`
	Outgoing  []mailServer `xml:"outgoingServer"`
}

type mailServer struct {
	Type           string   `xml:"type,attr"`
	Host           string   `xml:"hostname"`
	Port           uint16   `xml:"port"`
	Security       string   `xml:"socketType"`
	Authentication []string `xml:"authentication"`
	User           string   `xml:"username"`
}

// Thunderbird returns Thunderbird's document. Delta Chat, K-9, KMail, Evolution
// and others read it too. It is nil when mail cannot be read or not be handed in,
// for which the format has no words.
func (d *Deployment) Thunderbird() []byte {
	incoming, outgoing := mailServers("imap", d.IMAPServers()), mailServers("smtp", d.SubmissionServers())
	if len(incoming) == 0 || len(outgoing) == 0 {
		return nil
	}
	return document(clientConfig{Version: "1.1", Provider: emailProvider{
		ID: d.Domain, Domain: d.Domain, Name: d.name(), ShortName: d.name(), Incoming: incoming, Outgoing: outgoing,
	}})
}

func mailServers(kind string, servers []Server) (all []mailServer) {
	for _, s := range servers {
		m := mailServer{Type: kind, Host: s.Host, Port: s.Port, Security: "SSL", User: "%EMAILADDRESS%"}
		if s.StartTLS {
			m.Security = "STARTTLS"
		}
		// Clients take the first that they know, and no shipping one knows the
		// second. What knows both and was given a password is to use it.
		// "password-encrypted" would be CRAM-MD5 to Thunderbird.
		m.Authentication = []string{"password-cleartext"}
		if s.Keys {
			m.Authentication = append(m.Authentication, "TLS-client-cert")
		}
		all = append(all, m)
	}
	return all
}

// document returns v, which cannot fail to be written, as an XML document.
func document(v any) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(v); err != nil {
		panic(err) // structs of strings and numbers, into a buffer
	}
	b.WriteByte('\n')
	return b.Bytes()
}
