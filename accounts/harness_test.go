package accounts_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/store"
	"posthorn/store/storetest"
)

const password = "correct Horse"

var home = netip.MustParseAddr("192.0.2.1")

// door is a store of accounts with what it stands on.
type door struct {
	*accounts.Store
	keys *authkeys.Store
	kv   store.KV
	t    testing.TB
}

func newDoor(t testing.TB, o accounts.Options) *door {
	t.Helper()
	return openDoor(t, storetest.Memory(t), o)
}

func openDoor(t testing.TB, kv store.KV, o accounts.Options) *door {
	t.Helper()
	keys := authkeys.New(kv)
	s, err := accounts.New(t.Context(), kv, keys, o)
	if err != nil {
		t.Fatal(err)
	}
	return &door{s, keys, kv, t}
}

func (d *door) add(address, password string, more ...string) *accounts.Account {
	d.t.Helper()
	a, err := d.Add(d.t.Context(), address, password)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, m := range more {
		if err := d.AddAddress(d.t.Context(), a.ID, m); err != nil {
			d.t.Fatal(err)
		}
	}
	if a, err = d.Get(d.t.Context(), a.ID); err != nil {
		d.t.Fatal(err)
	}
	return a
}

// key registers a new key for an account.
func (d *door) key(a *accounts.Account, change ...func(*authkeys.Key)) authkeys.Fingerprint {
	d.t.Helper()
	k := authkeys.Key{Fingerprint: newFingerprint(), Account: a.ID, Name: "test", Type: "Ed25519"}
	for _, c := range change {
		c(&k)
	}
	if err := d.keys.Add(d.t.Context(), k); err != nil {
		d.t.Fatal(err)
	}
	return k.Fingerprint
}

func newFingerprint() (f authkeys.Fingerprint) {
	rand.Read(f[:])
	return f
}

// peer is a connection from an address that shows a key, or none. Its TLS is
// good for everything but channel binding.
func peer(from netip.Addr, key authkeys.Fingerprint) accounts.Peer {
	return accounts.Peer{Remote: from, Key: key, Scope: authkeys.ScopeIMAP, TLS: new(tls.ConnectionState)}
}

var noKey authkeys.Fingerprint

// reason returns why err refuses a login; it fails the test on errors of other
// kinds.
func reason(t testing.TB, err error) accounts.Reason {
	t.Helper()
	var refused *accounts.RefusedError
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("not a refusal: %v", err)
	}
	if refused == nil {
		return ""
	}
	return refused.Reason
}

func wantReason(t testing.TB, what string, err error, want accounts.Reason) {
	t.Helper()
	if got := reason(t, err); got != want {
		t.Errorf("%s: refused for %q, want %q", what, got, want)
	}
}

// tlsPair makes a TLS connection and returns how each side sees it.
func tlsPair(t testing.TB, change func(client, server *tls.Config)) (client, server *tls.ConnectionState) {
	t.Helper()
	sc := &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}
	cc := &tls.Config{InsecureSkipVerify: true}
	if change != nil {
		change(cc, sc)
	}
	c, s := net.Pipe()
	defer c.Close()
	defer s.Close()
	done := make(chan error, 1)
	sconn, cconn := tls.Server(s, sc), tls.Client(c, cc)
	go func() {
		err := sconn.HandshakeContext(t.Context())
		if err == nil {
			_, err = sconn.Write([]byte{0}) // after the tickets, for the client to have read all
		}
		done <- err
	}()
	if _, err := cconn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	cs, ss := cconn.ConnectionState(), sconn.ConnectionState()
	return &cs, &ss
}

func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client is the client's side of a SASL exchange, as go-sasl has it.
type client interface {
	Start() (mech string, ir []byte, err error)
	Next(challenge []byte) (response []byte, err error)
}

// exchange runs a SASL exchange to its end. With late, the initial response
// waits for a challenge.
func exchange(ctx context.Context, a *accounts.Auth, c client, late bool) (*accounts.Login, error) {
	mech, response, err := c.Start()
	if err != nil {
		return nil, err
	}
	x, err := a.Start(ctx, mech)
	if err != nil {
		return nil, err
	}
	if late {
		challenge, done, err := x.Next(nil)
		if err != nil {
			return nil, err
		}
		if done || (len(challenge) > 0 && mech != "LOGIN") {
			return nil, errors.New("the challenge before the initial response is not empty")
		}
	}
	for {
		challenge, done, err := x.Next(response)
		if err != nil {
			return nil, err
		}
		if done {
			return x.Login(), nil
		}
		if response, err = c.Next(challenge); err != nil {
			return nil, err
		}
		if response == nil {
			response = []byte{}
		}
	}
}
