package admin

import (
	"context"
	"net/http"
)

// NamePath is the part of a path that is a server name.
type NamePath struct {
	Name string `path:"name" maxLength:"255" doc:"A server name."`
}

// addCerts adds the operations about certificates and what the world should
// know of them.
func (a *api) addCerts() {
	const tag = "certificates"
	missing := []int{http.StatusNotFound}
	add(a, operation{id: "listCertificates", tag: tag, action: "cert list", method: "GET", path: "/certificates", summary: "The certificates of all server names"},
		func(ctx context.Context, who Actor, in *struct{ Cut }) (*body[*Page[Cert]], error) {
			all, err := a.ListCerts(ctx, who)
			if err != nil {
				return nil, err
			}
			return answer(ordered[Cert]{items: all, name: func(c Cert) string { return c.Name + "\x00" + string(c.KeyType) + c.File }}.page(in.Cut))
		})
	add(a, operation{id: "getCertificates", tag: tag, action: "cert show", method: "GET", path: "/certificates/{name}",
		summary: "The certificates of a server name, one for each type of key", fails: missing},
		func(ctx context.Context, who Actor, in *NamePath) (*body[Certs], error) {
			all, err := a.ShowCert(ctx, who, in.Name)
			return answer(Certs{all}, err)
		})
	add(a, operation{
		id: "renewCertificates", tag: tag, action: "cert renew", method: "POST", path: "/certificates/{name}/renewal", summary: "Get new certificates for a server name",
		about: "The answer comes when the CA's does.", slow: true, fails: []int{http.StatusNotFound, http.StatusConflict, http.StatusBadGateway},
	}, func(ctx context.Context, who Actor, in *NamePath) (*body[Certs], error) {
		all, err := a.RenewCert(ctx, who, in.Name)
		return answer(Certs{all}, err)
	})
	add(a, operation{
		id: "checkCertificate", tag: tag, action: "cert check", method: "GET", path: "/certificates/{name}/check", summary: "What a client from outside sees of a server name",
		fails: missing,
	}, func(ctx context.Context, who Actor, in *struct {
		NamePath
		Address string `query:"address" maxLength:"300" doc:"HOST:PORT to connect to; empty: where the DNS leads."`
	}) (*body[*CertCheck], error) {
		return answer(a.CheckCert(ctx, who, in.Name, in.Address))
	})
	add(a, operation{id: "getECH", tag: tag, action: "ech show", method: "GET", path: "/ech", summary: "What to publish for Encrypted Client Hello", fails: missing},
		func(ctx context.Context, who Actor, _ *nothing) (*body[*ECH], error) {
			return answer(a.ShowECH(ctx, who))
		})
	add(a, operation{id: "listTickets", tag: tag, action: "ticket show", method: "GET", path: "/tickets", summary: "The state of the session ticket keys"},
		func(ctx context.Context, who Actor, _ *nothing) (*body[TicketList], error) {
			all, err := a.ListTickets(ctx, who)
			return answer(TicketList{all}, err)
		})
	add(a, operation{
		id: "rotateTickets", tag: tag, action: "ticket rotate", method: "POST", path: "/tickets/rotation", summary: "Have new keys make session tickets",
		about: "Listeners follow within a minute.",
	}, func(ctx context.Context, who Actor, in *struct {
		Discard bool `query:"discard" doc:"Tickets made before are not accepted any more."`
	}) (*body[TicketList], error) {
		all, err := a.RotateTickets(ctx, who, in.Discard)
		return answer(TicketList{all}, err)
	})
	add(a, operation{id: "listRecords", tag: tag, action: "dns", method: "GET", path: "/records/{domain}", summary: "The DNS records that a mail domain wants"},
		func(ctx context.Context, who Actor, in *struct {
			Domain string `path:"domain" maxLength:"255" doc:"One of the configured mail domains."`
		}) (*body[Records], error) {
			all, err := a.Records(ctx, who, in.Domain)
			return answer(Records{all}, err)
		})
}

// Certs are the certificates of a server name.
type Certs struct {
	Items []Cert `json:"items" nullable:"false"`
}

// TicketList is the state of the session ticket keys of all classes.
type TicketList struct {
	Items []Tickets `json:"items" nullable:"false"`
}

// Records are the DNS records that a mail domain wants.
type Records struct {
	Items []Record `json:"items" nullable:"false"`
}
