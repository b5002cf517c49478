package certs_test

import (
	"crypto/tls"
	"net"
	"slices"
	"testing"
	"time"

	"posthorn/alpn"
	"posthorn/certs"
	"posthorn/store/storetest"
)

// A ticket is accepted for at least half of its class's time, and never for
// longer than that. The manager restarts every hour, which rotates as Run does.
func TestTicketKeyRotation(t *testing.T) {
	kv, c := storetest.Memory(t), newClock()
	lives := map[alpn.Class]time.Duration{alpn.Mail: 24 * time.Hour, alpn.Web: 7 * 24 * time.Hour}
	used := make(map[[32]byte][]int) // the hours in which a key made tickets
	class := make(map[[32]byte]alpn.Class)
	for hour := range 20 * 24 {
		c.set(time.Duration(hour) * time.Hour)
		m := newManager(t, certs.Config{Names: []string{"localhost"}, Store: kv, Now: c.time})
		for of := range lives {
			key := m.TicketKeys(of)[0]
			if other, known := class[key]; known && other != of || key == ([32]byte{}) {
				t.Fatal("the classes share a key, or have none")
			}
			used[key], class[key] = append(used[key], hour), of
		}
		for key, hours := range used {
			life := lives[class[key]]
			accepted := slices.Contains(m.TicketKeys(class[key]), key)
			for _, made := range hours {
				age := time.Duration(hour-made) * time.Hour
				if accepted && age >= life || !accepted && age <= life/2-time.Hour {
					t.Fatalf("hour %d, class %d: a ticket of hour %d is accepted: %v", hour, class[key], made, accepted)
				}
			}
		}
	}
	for key, hours := range used {
		if d := min(24*time.Hour, lives[class[key]]/2); len(hours) > int(d/time.Hour) {
			t.Errorf("class %d: a key was used for %d hours", class[key], len(hours))
		}
	}
	if n := len(used); n != 20*2+20 {
		t.Errorf("%d keys in 20 days", n)
	}
}

// A key that has grown too old is not accepted, also between rotations; and the
// keys rotate when the store fails, too.
func TestTicketKeysEnd(t *testing.T) {
	kv, c := storetest.Memory(t), newClock()
	config := certs.Config{Names: []string{"localhost"}, Store: kv, Now: c.time, MailTickets: 6 * time.Hour}
	first := newManager(t, config).TicketKeys(alpn.Mail)[0]
	c.set(4 * time.Hour)
	m := newManager(t, config)
	if keys := m.TicketKeys(alpn.Mail); len(keys) != 2 || keys[1] != first {
		t.Fatalf("after 4 h there are %d keys", len(keys))
	}
	c.set(6*time.Hour - time.Second)
	if slices.Contains(m.TicketKeys(alpn.Mail), first) {
		t.Error("after 6 h the first key is accepted")
	}
	second := m.TicketKeys(alpn.Mail)[0]
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	c.set(8 * time.Hour)
	if err := m.Rotate(t.Context()); err == nil {
		t.Error("the store has failed, and nobody says so")
	}
	if keys := m.TicketKeys(alpn.Mail); keys[0] == second || !slices.Contains(keys, second) {
		t.Error("without a store the keys do not rotate")
	}
}

func TestTicketsSurviveRestart(t *testing.T) {
	kv := storetest.Memory(t)
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
