package alpn_test

import (
	"errors"
	"testing"

	"posthorn/alpn"
)

func router() *alpn.Router {
	return &alpn.Router{
		Names: map[string]alpn.Protocol{
			"imap.example.org": alpn.IMAP,
			"smtp.example.org": alpn.SMTP,
		},
		CertNames:   map[string]bool{"keys.example.org": true},
		ACMEPending: func(name string) bool { return name == "new.example.org" },
	}
}

func TestRoute(t *testing.T) {
	imap := alpn.Route{Class: alpn.Mail, Protocol: alpn.IMAP, NextProto: "imap", RequestCert: true}
	smtp := alpn.Route{Class: alpn.Mail, Protocol: alpn.SMTP, NextProto: "smtp", RequestCert: true}
	sub := alpn.Route{Class: alpn.Mail, Protocol: alpn.SMTP, NextProto: "submission", RequestCert: true}
	h2 := alpn.Route{Class: alpn.Web, Protocol: alpn.HTTP2, NextProto: "h2"}
	h1 := alpn.Route{Class: alpn.Web, Protocol: alpn.HTTP1, NextProto: "http/1.1"}
	acme := alpn.Route{Class: alpn.Web, Protocol: alpn.ACME, NextProto: "acme-tls/1"}
	quiet := func(p alpn.Protocol) alpn.Route {
		return alpn.Route{Class: alpn.Mail, Protocol: p, RequestCert: true}
	}
	withCert := func(r alpn.Route) alpn.Route { r.RequestCert = true; return r }

	type protos = []string
	for _, tt := range []struct {
		port    alpn.Port
		offered []string
		name    string
		want    alpn.Route
		err     error
	}{
		// The server's order decides, not the client's.
		{alpn.Shared, protos{"imap"}, "example.org", imap, nil},
		{alpn.Shared, protos{"http/1.1", "h2", "submission", "smtp", "imap"}, "", imap, nil},
		{alpn.Shared, protos{"h2", "submission", "smtp"}, "", smtp, nil},
		{alpn.Shared, protos{"h2", "submission"}, "", sub, nil},
		{alpn.Shared, protos{"http/1.1", "h2"}, "", h2, nil},
		{alpn.Shared, protos{"http/1.1", "http/1.0"}, "", h1, nil},

		// An offer is strict: no name and no byte rescues it.
		{alpn.Shared, protos{"pop3"}, "imap.example.org", alpn.Route{}, alpn.ErrNoOverlap},
		{alpn.Shared, protos{"IMAP"}, "imap.example.org", alpn.Route{}, alpn.ErrNoOverlap},
		{alpn.Shared, protos{"imap\x00", " imap", "imaps"}, "", alpn.Route{}, alpn.ErrNoOverlap},
		{alpn.Shared, protos{"h2"}, "imap.example.org", h2, nil},
		{alpn.Shared, protos{"imap"}, "smtp.example.org", imap, nil},

		// acme-tls/1 only for a pending challenge.
		{alpn.Shared, protos{"acme-tls/1"}, "new.example.org", acme, nil},
		{alpn.Shared, protos{"acme-tls/1"}, "NEW.example.org", acme, nil},
		{alpn.Shared, protos{"acme-tls/1"}, "example.org", alpn.Route{}, alpn.ErrNoOverlap},
		{alpn.IMAPS, protos{"acme-tls/1"}, "new.example.org", alpn.Route{}, alpn.ErrNoOverlap},

		// Without an offer the name decides, then the first bytes.
		{alpn.Shared, nil, "imap.example.org", quiet(alpn.IMAP), nil},
		{alpn.Shared, nil, "IMAP.Example.ORG", quiet(alpn.IMAP), nil},
		{alpn.Shared, nil, "smtp.example.org", quiet(alpn.SMTP), nil},
		{alpn.Shared, nil, "example.org", alpn.Route{}, nil},
		{alpn.Shared, nil, "", alpn.Route{}, nil},

		// Web clients are asked for a certificate on some names only.
		{alpn.Shared, protos{"h2"}, "keys.example.org", withCert(h2), nil},
		{alpn.Shared, nil, "keys.example.org", alpn.Route{RequestCert: true}, nil},

		// Dedicated ports know one protocol, and are as strict.
		{alpn.IMAPS, nil, "smtp.example.org", quiet(alpn.IMAP), nil},
		{alpn.IMAPS, protos{"imap"}, "", imap, nil},
		{alpn.IMAPS, protos{"smtp"}, "", alpn.Route{}, alpn.ErrNoOverlap},
		{alpn.IMAPS, protos{"h2", "http/1.1"}, "", alpn.Route{}, alpn.ErrNoOverlap},
		{alpn.Submissions, nil, "imap.example.org", quiet(alpn.SMTP), nil},
		{alpn.Submissions, protos{"submission", "imap"}, "", sub, nil},
		{alpn.Submissions, protos{"imap"}, "", alpn.Route{}, alpn.ErrNoOverlap},
		{alpn.IMAPStartTLS, nil, "", quiet(alpn.IMAP), nil},
		{alpn.IMAPStartTLS, protos{"smtp"}, "", alpn.Route{}, alpn.ErrNoOverlap},
		{alpn.SubmissionStartTLS, protos{"smtp"}, "", smtp, nil},
		{alpn.SubmissionStartTLS, protos{"h2"}, "", alpn.Route{}, alpn.ErrNoOverlap},
	} {
		got, err := router().Route(tt.port, tt.offered, tt.name)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("Route(%d, %q, %q) = %+v, %v; want %+v, %v",
				tt.port, tt.offered, tt.name, got, err, tt.want, tt.err)
		}
	}
}

func TestRouteZeroRouter(t *testing.T) {
	var r alpn.Router
	got, err := r.Route(alpn.Shared, []string{"acme-tls/1", "imap"}, "x")
	if err != nil || got.Protocol != alpn.IMAP {
		t.Errorf("zero router: %+v, %v", got, err)
	}
}

func FuzzRoute(f *testing.F) {
	f.Add(uint8(0), "imap", "http/1.1", "imap.example.org")
	f.Add(uint8(1), "", "", "")
	f.Add(uint8(2), "submission", "\x00", "a\r\nb/../c")
	r := router()
	f.Fuzz(func(t *testing.T, port uint8, a, b, name string) {
		p := alpn.Port(port % 5)
		got, err := r.Route(p, []string{a, b}, name)
		if err != nil {
			return
		}
		if got.NextProto != a && got.NextProto != b {
			t.Errorf("selected %q, which was not offered", got.NextProto)
		}
		if only := p.Protocol(); only != "" && got.Protocol != only {
			t.Errorf("port %d speaks %q", p, got.Protocol)
		}
		if (got.Class == alpn.Mail) != (got.Protocol == alpn.IMAP || got.Protocol == alpn.SMTP) {
			t.Errorf("class of %+v", got)
		}
	})
}
