// Package mobileconfig makes configuration profiles for Apple's systems: an
// account for mail, with or without the identity that logs in to it. Opened on
// an iPhone, iPad or Mac, a profile asks for what it does not say, such as the
// password, and sets up the account.
package mobileconfig

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// ContentType is the media type of a profile, by which systems know it.
const ContentType = "application/x-apple-aspen-config"

// Profile describes one account. Its texts may hold anything; what XML cannot
// carry is replaced.
type Profile struct {
	// Host is the gateway's name, which the identifiers are made of.
	Host string
	// Name is what people see, of the profile and the account.
	Name string
	// Organization is who the profile says it is from; empty: nobody.
	Organization string
	// Address is whose account it is, and the name that it logs in with; empty:
	// the device asks.
	Address string
	// IMAP and Submission are where mail is, over TLS from the first octet on.
	IMAP, Submission Server
	// Identity logs in, in place of a password; nil: the device asks for one.
	Identity *Identity
}

// Server is a host name and port.
type Server struct {
	Host string
	Port int
}

// Identity is a private key with its certificate.
type Identity struct {
	// Name is what people see, and the file's name.
	Name string
	// PKCS12 is the file, under a passphrase that the device asks for. Apple's
	// systems before macOS 15 and iOS 18 read the old ciphers alone: triple DES
	// with SHA-1.
	PKCS12 []byte
}

// Encode returns the profile as an XML property list. Profiles for the same
// address at the same host have the same identifiers, so that a new one replaces
// the old one on a device.
func (p *Profile) Encode() []byte {
	mail := p.mail()
	content := []any{mail}
	if p.Identity != nil {
		content = append(content, p.identity())
	}
	profile := dict{
		{"PayloadType", "Configuration"},
		{"PayloadVersion", 1},
		{"PayloadIdentifier", p.identifier()},
		{"PayloadUUID", p.uuid("profile")},
		{"PayloadDisplayName", p.Name},
	}
	if p.Organization != "" {
		profile = append(profile, entry{"PayloadOrganization", p.Organization})
	}
	profile = append(profile, entry{"PayloadContent", content})
	var b bytes.Buffer
	b.WriteString(head)
	write(&b, profile, 0)
	b.WriteString("</plist>\n")
	return b.Bytes()
}

// mail is the payload com.apple.mail.managed. A login by key is none that Mail
// has a word for here: it is told not to log in, and the key logs in by itself,
// or its owner chooses "TLS Client Certificate" in its settings.
func (p *Profile) mail() dict {
	auth := "EmailAuthPassword"
	if p.Identity != nil {
		auth = "EmailAuthNone"
	}
	d := dict{
		{"PayloadType", "com.apple.mail.managed"},
		{"PayloadVersion", 1},
		{"PayloadIdentifier", p.identifier() + ".mail"},
		{"PayloadUUID", p.uuid("mail")},
		{"PayloadDisplayName", p.Name},
		{"EmailAccountType", "EmailTypeIMAP"},
		{"EmailAccountDescription", p.Name},
		{"IncomingMailServerHostName", p.IMAP.Host},
		{"IncomingMailServerPortNumber", p.IMAP.Port},
		{"IncomingMailServerUseSSL", true},
		{"IncomingMailServerAuthentication", auth},
		{"OutgoingMailServerHostName", p.Submission.Host},
		{"OutgoingMailServerPortNumber", p.Submission.Port},
		{"OutgoingMailServerUseSSL", true},
		{"OutgoingMailServerAuthentication", auth},
		{"OutgoingPasswordSameAsIncomingPassword", true},
	}
	if p.Address != "" {
		d = append(d,
			entry{"EmailAddress", p.Address},
			entry{"IncomingMailServerUsername", p.Address},
			entry{"OutgoingMailServerUsername", p.Address})
	}
	return d
}

// identity is the payload com.apple.security.pkcs12. It does not hold the
// passphrase, so the file alone opens nothing.
func (p *Profile) identity() dict {
	return dict{
		{"PayloadType", "com.apple.security.pkcs12"},
		{"PayloadVersion", 1},
		{"PayloadIdentifier", p.identifier() + ".identity"},
		{"PayloadUUID", p.uuid("identity")},
		{"PayloadDisplayName", p.Identity.Name},
		{"PayloadCertificateFileName", p.Identity.Name + ".p12"},
		{"PayloadContent", p.Identity.PKCS12},
	}
}

// identifier is a host's name from right to left, as is the custom, with what
// tells accounts apart and has no characters that a system could stumble over.
func (p *Profile) identifier() string {
	labels := strings.Split(p.Host, ".")
	slices.Reverse(labels)
	account := uuid.NewSHA1(uuid.NameSpaceDNS, []byte(p.Host+" "+p.Address)).String()
	return strings.Join(labels, ".") + ".posthorn." + account[:8]
}

// uuid returns the version 5 UUID (RFC 9562 section 5.5) of a payload.
func (p *Profile) uuid(payload string) string {
	name := p.Host + " " + p.Address + " " + payload
	return strings.ToUpper(uuid.NewSHA1(uuid.NameSpaceDNS, []byte(name)).String())
}

// Placeholder returns what stands in an encoded profile for an Identity with
// this content. Somebody who alone has the private key can put the real one there.
func Placeholder(content []byte) string { return base64.StdEncoding.EncodeToString(content) }
