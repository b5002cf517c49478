package certs_test

import (
	"crypto/tls"
	"net"
	"slices"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/certs"
)

// TestTicketKeyRotation restarts every twelve hours, which rotates as Run does.
func TestTicketKeyRotation(t *testing.T) {
	kv, c := memory(t), newClock()
	var first, last [2][32]byte // by class
	for halfDay := range 24 {
		c.set(time.Duration(halfDay) * 12 * time.Hour)
		m := newManager(t, certs.Config{Names: []string{"localhost"}, Store: kv, Now: c.time})
		for class, accepted := range map[alpn.Class]int{alpn.Mail: 2 * 2, alpn.Web: 2 * 8} {
			now := m.TicketKeys(class)
			if halfDay == 0 {
				first[class] = now[0]
			}
			if rotated := now[0] != last[class]; rotated != (halfDay%2 == 0) {
				t.Errorf("half day %d, class %d: rotated: %v", halfDay, class, rotated)
			}
			if got := slices.Contains(now, first[class]); got != (halfDay < accepted) {
				t.Errorf("half day %d, class %d: the first key is accepted: %v", halfDay, class, got)
			}
			if len(now) > 9 {
				t.Errorf("half day %d, class %d: %d keys", halfDay, class, len(now))
			}
			last[class] = now[0]
		}
	}
	if first[alpn.Mail] == first[alpn.Web] || first[alpn.Mail] == ([32]byte{}) {
		t.Error("the classes share a key, or have none")
	}
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
