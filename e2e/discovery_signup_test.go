package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
)

// TestSignupsSurviveKill: whoever has been told an address and a password can
// log in after kill -9, no two have the same, and nobody has only half an account.
func TestSignupsSurviveKill(t *testing.T) {
	g := newGateway(t, "signup: {domains: [localhost], per_source: 100000, total: 100000}\n")
	type account struct{ Email, Password string }
	var (
		clients sync.WaitGroup
		mu      sync.Mutex
		told    []account
		enough  = make(chan bool)
	)
	for range 8 {
		clients.Go(func() {
			transport := &http.Transport{TLSClientConfig: g.tlsConfig(""), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", g.shared)
			}}
			defer transport.CloseIdleConnections()
			for {
				r, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Post("https://localhost/new", "", nil)
				if err != nil {
					return // the gateway is gone
				}
				var a account
				err = json.NewDecoder(r.Body).Decode(&a)
				r.Body.Close()
				if err != nil {
					return
				}
				mu.Lock()
				if told = append(told, a); len(told) == 40 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(patience):
		t.Error("it takes long")
	}
	g.kill()
	clients.Wait()
	g.start()

	var all []struct {
		Addresses []string
		Password  bool `json:"has_password"`
	}
	if err := json.Unmarshal([]byte(g.posthorn("account", "list", "--json")), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < len(told) {
		t.Errorf("%d accounts are there, %d were told", len(all), len(told))
	}
	for _, a := range all {
		if len(a.Addresses) != 1 || !a.Password {
			t.Errorf("half an account: %+v", a)
		}
	}
	seen := make(map[string]bool)
	for _, a := range told {
		if seen[a.Email] {
			t.Errorf("%s was given to two", a.Email)
		}
		seen[a.Email] = true
		c := imapclient.New(g.dial("", "imap"), nil)
		if err := c.Login(a.Email, a.Password).Wait(); err != nil {
			t.Errorf("%s: %v", a.Email, err)
		}
		c.Close()
	}
}
