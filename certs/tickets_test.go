package certs_test

import (
	"crypto/tls"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/alpn"
	"posthorn/certs"
)

func TestTicketKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, c := memory(t), newClock()
		m := newManager(t, certs.Config{Names: []string{"localhost"}, Store: kv, Now: c.time})
		mail, web := m.TicketKeys(alpn.Mail), m.TicketKeys(alpn.Web)
		if len(mail) != 1 || len(web) != 1 || mail[0] == web[0] || mail[0] == ([32]byte{}) {
			t.Fatalf("at first %d and %d keys, the same: %v", len(mail), len(web), mail[0] == web[0])
		}
		c.advance(-2 * time.Hour) // so that a day passes in the run below just before and after rotation
		last := [...][32]byte{alpn.Web: web[0], alpn.Mail: mail[0]}
		c.run(t, m, 12, func(day int) {
			for class := range last {
				now := m.TicketKeys(alpn.Class(class))
				if rotated := now[0] != last[class]; rotated != (day > 1) {
					t.Errorf("day %d, class %d: rotated: %v", day, class, rotated)
				}
				last[class] = now[0]
			}
			if got, want := slices.Contains(m.TicketKeys(alpn.Mail), mail[0]), day <= 2; got != want {
				t.Errorf("day %d: the first mail key is accepted: %v", day, got)
			}
			if got, want := slices.Contains(m.TicketKeys(alpn.Web), web[0]), day <= 8; got != want {
				t.Errorf("day %d: the first web key is accepted: %v", day, got)
			}
		})
		if n := len(m.TicketKeys(alpn.Web)); n > 9 {
			t.Errorf("%d web keys", n)
		}
		restarted := newManager(t, certs.Config{Names: []string{"localhost"}, Store: kv, Now: c.time})
		for _, class := range []alpn.Class{alpn.Web, alpn.Mail} {
			if !slices.Equal(restarted.TicketKeys(class), m.TicketKeys(class)) {
				t.Errorf("class %d: a restart lost ticket keys", class)
			}
		}
	})
}

func TestTicketsSurviveRestart(t *testing.T) {
	kv := memory(t)
	client := &tls.Config{ServerName: "localhost", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	resumed := func(class alpn.Class) bool {
		m := newManager(t, certs.Config{Names: []string{"localhost"}, Store: kv})
		server := &tls.Config{GetCertificate: m.GetCertificate}
		server.SetSessionTicketKeys(m.TicketKeys(class))
		return resumes(t, server, client)
	}
	if resumed(alpn.Mail) {
		t.Error("the first handshake resumed")
	}
	if !resumed(alpn.Mail) {
		t.Error("no resumption after a restart")
	}
	if resumed(alpn.Web) {
		t.Error("a mail ticket resumed as web")
	}
}

// resumes makes a handshake, takes the tickets that come behind it, and reports
// whether it was a resumption.
func resumes(t *testing.T, server, client *tls.Config) bool {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() {
		defer b.Close()
		_, err := tls.Server(b, server).Write([]byte("x"))
		done <- err
	}()
	c := tls.Client(a, client)
	defer a.Close()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().DidResume
}
