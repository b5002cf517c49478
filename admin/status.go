package admin

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"posthorn/alpn"
	"posthorn/authkeys"
)

// State is where in its life the gateway is.
type State int32

const (
	Starting State = iota
	Serving
	Draining
)

func (s State) String() string {
	switch s {
	case Serving:
		return "serving"
	case Draining:
		return "draining"
	}
	return "starting"
}

// SetState notes where in its life the gateway is, for Status and /healthz.
func (s *Service) SetState(st State) { s.state.Store(int32(st)) }

// State returns what SetState noted.
func (s *Service) State() State { return State(s.state.Load()) }

// Instance is what does not change while a gateway runs.
type Instance struct {
	Version   string     `json:"version"`
	PID       int        `json:"pid"`
	Started   time.Time  `json:"started"`
	Config    string     `json:"config,omitempty"` // the file; empty: none was given
	DataDir   string     `json:"data_dir"`
	Listeners []Listener `json:"listeners"`
}

// Listener is one listening socket.
type Listener struct {
	Name    string `json:"name"` // such as "shared" or "imaps"
	Address string `json:"address"`
}

// Status is what a gateway says about itself.
type Status struct {
	State string `json:"state"`
	Instance
	// Certificate is nil as long as the CA has issued none.
	Certificate *Certificate `json:"certificate,omitempty"`
	Conns       ConnCounts   `json:"connections"`
	// Backends counts the addresses of the mail systems behind.
	Backends BackendCounts `json:"backends"`
}

// Certificate is the one that clients get who send no server name.
type Certificate struct {
	Fingerprint authkeys.Fingerprint `json:"fingerprint"` // of its public key
	SHA256      string               `json:"sha256"`      // of all of it, as browsers show it: AB:CD:…
	Names       []string             `json:"names"`
	Expires     time.Time            `json:"expires"`
}

// ConnCounts counts the live connections.
type ConnCounts struct {
	Total      int                   `json:"total"`
	LoggedIn   int                   `json:"logged_in"`
	ByProtocol map[alpn.Protocol]int `json:"by_protocol,omitempty"`
}

// Status describes the running gateway.
func (s *Service) Status(_ context.Context, who Actor) (*Status, error) {
	if err := s.operator(who, "status"); err != nil {
		return nil, err
	}
	st := &Status{State: s.State().String(), Instance: s.Instance, Certificate: s.Certificate(), Backends: s.backendCounts()}
	st.Conns.ByProtocol = make(map[alpn.Protocol]int)
	for _, c := range s.Mux.Conns() {
		st.Conns.Total++
		st.Conns.ByProtocol[c.Protocol]++
		if c.Identity.Account != "" {
			st.Conns.LoggedIn++
		}
	}
	return st, nil
}

// Certificate describes the one that clients get who send no server name; nil:
// there is none yet.
func (s *Service) Certificate() *Certificate {
	cert, fp := s.Certs.Default()
	if cert == nil {
		return nil
	}
	sum := sha256.Sum256(cert.Raw)
	hex := make([]string, len(sum))
	for i, b := range sum {
		hex[i] = fmt.Sprintf("%02X", b)
	}
	return &Certificate{Fingerprint: fp, SHA256: strings.Join(hex, ":"), Names: cert.DNSNames, Expires: cert.NotAfter}
}
