// Package discovery serves what mail programs, other mail servers and people look
// for under the names of a mail domain: how to reach its mailboxes, its MTA-STS
// policy, and whom to tell of a vulnerability. Nothing of it is secret, and
// nothing of it says which accounts there are.
package discovery

import (
	"cmp"
	"errors"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"posthorn/accounts"
	"posthorn/autoconf"
	"posthorn/mobileconfig"
)

// Handler answers for all mail domains. Its fields are set before Mount and not
// changed after.
type Handler struct {
	// Domains are the mail domains whose settings are told.
	Domains []autoconf.Deployment
	// SelfSigned reports whether the certificate that a server name has now is none of
	// a CA; nil: all are. See autoconf.Deployment.Believed.
	SelfSigned func(name string) bool
	// Port is where HTTPS is, as clients see it; zero: 443.
	Port int
	// Policy is the MTA-STS policy of PolicyDomains; nil: there is none.
	Policy        *autoconf.Policy
	PolicyDomains []string
	// SecurityTXT is served under SecurityHosts until it expires; nil: there is none.
	SecurityTXT   *autoconf.SecurityTXT
	SecurityHosts []string
}

// Mounter is what Mount needs of the web server; see https.Server.
type Mounter interface {
	Mount(pattern string, h http.Handler)
	// MountAnyCase is Mount for a path that clients write in any case.
	MountAnyCase(pattern string, h http.Handler)
}

// The names below a mail domain that clients look under, by the services' own
// documents.
const (
	autoconfigName   = "autoconfig."
	autodiscoverName = "autodiscover."
	mtaSTSName       = "mta-sts."
)

// Mount has m serve it all, on the hosts where clients look for it; whether those
// are served at all is m's matter. A host that is a mail domain of its own, as
// well as a name below another one, is the domain.
func (h *Handler) Mount(m Mounter) {
	byDomain := make(map[string]*autoconf.Deployment, len(h.Domains))
	for i := range h.Domains {
		byDomain[h.Domains[i].Domain] = &h.Domains[i]
	}
	hosts := maps.Clone(byDomain)
	for domain, d := range byDomain {
		for _, host := range []string{autoconfigName + domain, autodiscoverName + domain} {
			if hosts[host] == nil {
				hosts[host] = d
			}
		}
	}
	for host, d := range hosts {
		s := &settings{host: host, domain: d, byDomain: byDomain, port: h.Port, selfSigned: h.SelfSigned}
		s.mount(m)
	}
	h.mountPolicy(m)
	h.mountSecurity(m)
}

func (h *Handler) mountPolicy(m Mounter) {
	if h.Policy == nil {
		return
	}
	// No HTTP cache is asked (RFC 8461 section 3.3), but people look too.
	policy := static{h.Policy.Text(), "text/plain; charset=utf-8", 5 * time.Minute}
	mounted := make(map[string]bool)
	for _, domain := range h.PolicyDomains {
		for _, host := range []string{domain, mtaSTSName + domain} {
			if !mounted[host] {
				mounted[host] = true
				m.Mount("GET "+host+"/.well-known/mta-sts.txt", policy)
			}
		}
	}
}

func (h *Handler) mountSecurity(m Mounter) {
	if h.SecurityTXT == nil {
		return
	}
	text := static{h.SecurityTXT.Text(), "text/plain; charset=utf-8", time.Hour}
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !time.Now().Before(h.SecurityTXT.Expires) { // RFC 9116 section 2.5.5
			http.NotFound(w, r)
			return
		}
		text.ServeHTTP(w, r)
	})
	for _, host := range h.SecurityHosts {
		m.Mount("GET "+host+"/.well-known/security.txt", serve)
	}
}

// settings tells, under one host name, how to reach the mailboxes of a domain.
type settings struct {
	host     string
	domain   *autoconf.Deployment
	byDomain map[string]*autoconf.Deployment
	port     int

	selfSigned func(name string) bool // nil: none is
}

func (s *settings) mount(m Mounter) {
	thunderbird := http.HandlerFunc(s.serveThunderbird)
	m.Mount("GET "+s.host+"/.well-known/autoconfig/mail/config-v1.1.xml", thunderbird)
	if s.host != s.domain.Domain {
		m.Mount("GET "+s.host+"/mail/config-v1.1.xml", thunderbird)
	}
	m.MountAnyCase("GET "+s.host+outlookPath, http.HandlerFunc(s.serveOutlookGet))
	m.MountAnyCase("POST "+s.host+outlookPath, http.HandlerFunc(s.serveOutlook))
	m.MountAnyCase("GET "+s.host+"/autodiscover/autodiscover.json", http.HandlerFunc(s.serveOutlookV2))
	m.Mount("GET "+s.host+"/autodiscover/autodiscover.json/v1.0/{address}", http.HandlerFunc(s.serveOutlookV2))
	m.Mount("GET "+s.host+"/email.mobileconfig", http.HandlerFunc(s.serveApple))
}

const outlookPath = "/autodiscover/autodiscover.xml"

// about returns the domain of an address and the address in its normal form. An
// address that is none, such as a placeholder that was left in, is about the
// host's domain. nil: the address is not of here.
func (s *settings) about(address string) (d *autoconf.Deployment, normal string) {
	normal, err := accounts.ParseAddress(address)
	if err != nil {
		return s.told(s.domain), ""
	}
	return s.told(s.byDomain[normal[strings.LastIndexByte(normal, '@')+1:]]), normal
}

// told returns what to tell of a domain at the moment; nil for nil.
func (s *settings) told(d *autoconf.Deployment) *autoconf.Deployment {
	if d != nil && s.selfSigned != nil {
		d, _ = d.Believed(s.selfSigned)
	}
	return d
}

func (s *settings) serveThunderbird(w http.ResponseWriter, r *http.Request) {
	d, _ := s.about(r.URL.Query().Get("emailaddress"))
	if d == nil {
		http.NotFound(w, r)
		return
	}
	text := d.Thunderbird()
	if text == nil {
		http.NotFound(w, r)
		return
	}
	static{text, xmlType, time.Hour}.ServeHTTP(w, r)
}

const xmlType = "text/xml; charset=utf-8"

// serveOutlookGet tells clients that do not say whom they ask about.
func (s *settings) serveOutlookGet(w http.ResponseWriter, r *http.Request) {
	text := s.told(s.domain).Outlook("")
	if text == nil {
		http.NotFound(w, r)
		return
	}
	static{text, xmlType, time.Hour}.ServeHTTP(w, r)
}

func (s *settings) serveOutlook(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", xmlType)
	w.Header().Set("Cache-Control", "no-store")
	address, err := autoconf.ReadRequest(http.MaxBytesReader(w, r.Body, autoconf.MaxRequest))
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, autoconf.ErrSchema) {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		w.Write(autoconf.OutlookError(err))
		return
	}
	d, normal := s.about(address)
	if d == nil || normal == "" {
		w.WriteHeader(http.StatusNotFound)
		w.Write(autoconf.OutlookError(nil))
		return
	}
	text := d.Outlook(normal)
	if text == nil {
		w.WriteHeader(http.StatusNotFound)
		text = autoconf.OutlookError(nil)
	}
	w.Write(text)
}

func (s *settings) serveOutlookV2(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	address := r.PathValue("address")
	if address == "" {
		address = query(q, "Email")
	}
	d, _ := s.about(address)
	if d == nil {
		http.NotFound(w, r)
		return
	}
	host := d.Domain
	if s.port != 0 && s.port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(s.port))
	}
	text, ok := autoconf.OutlookV2(query(q, "Protocol"), "https://"+host+outlookPath)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
	}
	w.Write(text)
}

// serveApple is where people are sent with an iPhone, iPad or Mac, which do not
// look by themselves. The profile holds an account without a password or key.
func (s *settings) serveApple(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	d, address := s.about(cmp.Or(query(q, "email"), query(q, "emailaddress")))
	if d == nil {
		http.NotFound(w, r)
		return
	}
	// The server that is tried is the first one, and it has to begin with TLS.
	imap, submission := implicit(d.IMAPServers()), implicit(d.SubmissionServers())
	if imap.Port == 0 || submission.Port == 0 {
		http.NotFound(w, r)
		return
	}
	p := mobileconfig.Profile{
		Host: d.Domain, Name: cmp.Or(d.Name, d.Domain), Organization: d.Name, Address: address, IMAP: imap, Submission: submission,
	}
	h := w.Header()
	h.Set("Content-Type", mobileconfig.ContentType)
	h.Set("Content-Disposition", "attachment; filename="+strconv.Quote(d.Domain+".mobileconfig"))
	h.Set("Cache-Control", "no-store")
	w.Write(p.Encode())
}

// implicit returns the first server that speaks TLS from the first octet on.
func implicit(servers []autoconf.Server) mobileconfig.Server {
	for _, s := range servers {
		if !s.StartTLS {
			return mobileconfig.Server{Host: s.Host, Port: int(s.Port)}
		}
	}
	return mobileconfig.Server{}
}

// query returns the first value of a parameter, whose name clients write in any
// case.
func query(q map[string][]string, name string) string {
	for key, values := range q {
		if strings.EqualFold(key, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// static is a public document. Scripts of any site may read it: that is how
// mail programs in browsers learn of it.
type static struct {
	text []byte
	kind string
	age  time.Duration // for how long it may be kept
}

// ServeHTTP implements http.Handler.
func (s static) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", s.kind)
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(s.age.Seconds())))
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Content-Length", strconv.Itoa(len(s.text)))
	w.Write(s.text)
}
