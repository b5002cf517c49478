package autoconf

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// What Outlook asks and hears ([MS-OXDSCLI]), as plain old XML.
const (
	responseSchema = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
	outlookSchema  = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
)

var (
	// ErrRequest says that a body is no request of Outlook's.
	ErrRequest = errors.New("not an Autodiscover request")
	// ErrSchema says that the client wants an answer of another kind, such as
	// that for ActiveSync.
	ErrSchema = errors.New("no answer of the kind that is asked for")
)

// MaxRequest is how long a request of Outlook's may be, in octets. Real ones have
// a few hundred.
const MaxRequest = 16 << 10

// ReadRequest returns the address, as it was written, that a request of Outlook's
// asks about (ErrRequest, ErrSchema). It reads MaxRequest octets at most.
// Namespaces do not matter; document types are refused, and with them entities.
func ReadRequest(r io.Reader) (address string, err error) {
	limited := &io.LimitedReader{R: r, N: MaxRequest + 1}
	d := xml.NewDecoder(limited)
	var path []string
	var mail, schema strings.Builder
	for {
		token, err := d.Token()
		if err == io.EOF && limited.N > 0 {
			break
		}
		if err != nil || limited.N == 0 || len(path) > maxDepth {
			return "", ErrRequest
		}
		switch t := token.(type) {
		case xml.Directive:
			return "", ErrRequest
		case xml.StartElement:
			path = append(path, t.Name.Local)
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.CharData:
			switch strings.Join(path, "/") {
			case "Autodiscover/Request/EMailAddress":
				mail.Write(t)
			case "Autodiscover/Request/AcceptableResponseSchema":
				schema.Write(t)
			}
		}
	}
	address = strings.TrimSpace(mail.String())
	switch s := strings.TrimSpace(schema.String()); {
	case address == "":
		return "", ErrRequest
	case s != "" && s != outlookSchema:
		return "", ErrSchema
	}
	return address, nil
}

// maxDepth is how deep the elements of a request may nest; it takes three.
const maxDepth = 8

type autodiscover struct {
	XMLName  xml.Name        `xml:"Autodiscover"`
	Schema   string          `xml:"xmlns,attr"`
	Response outlookResponse `xml:"Response"`
}

type outlookResponse struct {
	Schema  string          `xml:"xmlns,attr,omitempty"`
	User    *outlookUser    `xml:"User"`
	Account *outlookAccount `xml:"Account"`
	Error   *outlookError   `xml:"Error"`
}

type outlookUser struct {
	Name    string `xml:"DisplayName"`
	Address string `xml:"AutoDiscoverSMTPAddress,omitempty"`
}

type outlookAccount struct {
	Type      string            `xml:"AccountType"`
	Action    string            `xml:"Action"`
	Protocols []outlookProtocol `xml:"Protocol"`
}

type outlookProtocol struct {
	Type           string `xml:"Type"`
	Server         string `xml:"Server"`
	Port           uint16 `xml:"Port"`
	DomainRequired string `xml:"DomainRequired"`
	LoginName      string `xml:"LoginName,omitempty"`
	SPA            string `xml:"SPA"`
	SSL            string `xml:"SSL"`
	Encryption     string `xml:"Encryption"`
	AuthRequired   string `xml:"AuthRequired"`
	POPAuth        string `xml:"UsePOPAuth,omitempty"`
	SMTPLast       string `xml:"SMTPLast,omitempty"`
}

type outlookError struct {
	Code    int    `xml:"ErrorCode"`
	Message string `xml:"Message"`
	Debug   string `xml:"DebugData"`
}

// Outlook returns the answer about an address of the domain; empty: about
// nobody's in particular. It is nil when mail cannot be read or not be handed in.
func (d *Deployment) Outlook(address string) []byte {
	incoming, outgoing := d.IMAPServers(), d.SubmissionServers()
	if len(incoming) == 0 || len(outgoing) == 0 {
		return nil
	}
	account := &outlookAccount{Type: "email", Action: "settings"}
	for _, s := range incoming {
		account.Protocols = append(account.Protocols, outlookServer("IMAP", s, address))
	}
	for _, s := range outgoing {
		p := outlookServer("SMTP", s, address)
		p.POPAuth, p.SMTPLast = "off", "off"
		account.Protocols = append(account.Protocols, p)
	}
	user := &outlookUser{Name: d.name(), Address: address}
	return document(autodiscover{Schema: responseSchema, Response: outlookResponse{Schema: outlookSchema, User: user, Account: account}})
}

func outlookServer(kind string, s Server, address string) outlookProtocol {
	p := outlookProtocol{Type: kind, Server: s.Host, Port: s.Port, LoginName: address, DomainRequired: "off",
		SPA: "off", SSL: "on", Encryption: "SSL", AuthRequired: "on"}
	if s.StartTLS {
		p.Encryption = "TLS"
	}
	return p
}

// OutlookError returns the answer to a request that failed: with ErrRequest,
// ErrSchema, or because nothing is known about the address.
func OutlookError(err error) []byte {
	e := &outlookError{Code: 500, Message: "The email address can't be found."}
	switch {
	case errors.Is(err, ErrRequest):
		e.Code, e.Message = 600, "Invalid Request"
	case errors.Is(err, ErrSchema):
		e.Code, e.Message = 601, "Provider is not available"
	}
	return document(autodiscover{Schema: responseSchema, Response: outlookResponse{Error: e}})
}

// OutlookV2 returns the answer to a request of Autodiscover's second version,
// which only says where the first one is (url). Of its protocols that is the one
// that there is here; ok is false for others, and the answer says so.
func OutlookV2(protocol, url string) (answer []byte, ok bool) {
	if strings.EqualFold(protocol, "AutodiscoverV1") {
		return asJSON(struct{ Protocol, Url string }{"AutodiscoverV1", url}), true
	}
	refusal := struct{ ErrorCode, ErrorMessage string }{"InvalidProtocol", "The given protocol value is invalid. Supported values are 'AutodiscoverV1'."}
	if protocol == "" {
		refusal.ErrorCode = "MandatoryParameterMissing"
		refusal.ErrorMessage = "A valid value must be provided for the query parameter 'Protocol'."
	}
	return asJSON(refusal), false
}

func asJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // structs of strings
	}
	return append(b, '\n')
}
