package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"posthorn/backend/backendtest"
)

// pairFile writes a new certificate for localhost, and its key, into the file
// name, as a whole.
func pairFile(t testing.TB, name string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// TestFilesChangeUnderLoad: certificates are replaced while clients connect, of
// which none fails; what is broken changes nothing; open connections stay.
func TestFilesChangeUnderLoad(t *testing.T) {
	handshakes := int64(10_000)
	if testing.Short() {
		handshakes = 1000
	}
	file := filepath.Join(t.TempDir(), "both.pem")
	pairFile(t, file, 1)
	g := certGateway(t, backendtest.Port(t), 0, "  files: [{cert: "+file+"}]\nlimits: {unauthenticated_per_source: 500}\n")
	g.start()
	open, err := tls.Dial("tcp", g.shared, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true, NextProtos: []string{"imap"}})
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()

	var (
		left   atomic.Int64
		failed atomic.Int64
		seen   sync.Map // serial numbers
		load   sync.WaitGroup
	)
	left.Store(handshakes)
	for range 4 {
		load.Go(func() {
			for left.Add(-1) >= 0 {
				c, err := tls.Dial("tcp", g.shared, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true, NextProtos: []string{"imap"}})
				if err != nil {
					failed.Add(1)
					t.Log(err)
					continue
				}
				seen.Store(c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), true)
				c.Close()
			}
		})
	}
	serial := int64(1)
	for left.Load() > 0 {
		serial++
		pairFile(t, file, serial)
		if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		g.awaitSerial(serial)
	}
	load.Wait()
	different := 0
	seen.Range(func(any, any) bool { different++; return true })
	if n := failed.Load(); n != 0 || different < 3 {
		t.Errorf("%d of %d handshakes failed, %d certificates were served", n, handshakes, different)
	}

	// Without a signal the files are looked at every few seconds.
	pairFile(t, file, 1_000_000)
	g.awaitSerial(1_000_000)
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.awaitLog("certificates that cannot be read stay as they were")
	g.awaitSerial(1_000_000)
	if c := g.certs("show", "localhost"); len(c) != 1 || c[0].Source != "file" || c[0].File != file {
		t.Errorf("shown: %+v", c)
	}
	if _, complaint, err := g.try("", binary, "cert", "renew", "localhost", "--config", g.config); err == nil || !strings.Contains(complaint, "hint: the gateway reads it again") {
		t.Errorf("renew: %s", complaint)
	}
	fmt.Fprintf(open, "a NOOP\r\n")
	if err := open.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var answer [4096]byte
	for got := ""; !strings.Contains(got, "a OK"); {
		n, err := open.Read(answer[:])
		if err != nil {
			t.Fatalf("the connection that was open: %v", err)
		}
		got += string(answer[:n])
	}
}

// awaitSerial waits until localhost's certificate has a serial number.
func (g *gateway) awaitSerial(want int64) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("certificate %d is served", want), func() bool {
		block, _ := pem.Decode(g.certificate())
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			g.t.Fatal(err)
		}
		return leaf.SerialNumber.Int64() == want
	})
}

// TestTicketsOverRestart: mail and web clients resume after a restart, each its
// own class alone; and with a key file nothing in the store shows their keys.
func TestTicketsOverRestart(t *testing.T) {
	secret := secretFile(t, strings.Repeat("k", 40))
	g := certGateway(t, backendtest.Port(t), 0, "  key_file: "+secret+"\n")
	g.start()
	caches := map[string]tls.ClientSessionCache{"imap": new(oneSession), "h2": new(oneSession)}
	resumed := func(protocol, ticketOf string) bool {
		config := g.tlsConfig("", protocol)
		config.ClientSessionCache = caches[ticketOf]
		c := g.dialWith(config)
		defer c.Close()
		// Tickets come with the first words of the server.
		if protocol == "imap" {
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		} else if talkHidden(t, c, "h2") == "" {
			t.Fatal("no answer")
		}
		return c.ConnectionState().DidResume
	}
	for protocol := range caches {
		if resumed(protocol, protocol) {
			t.Errorf("%s: the first connection resumed", protocol)
		}
	}
	g.end(syscall.SIGTERM)
	g.start()
	for protocol := range caches {
		if !resumed(protocol, protocol) {
			t.Errorf("%s: no resumption after a restart", protocol)
		}
	}
	if resumed("imap", "h2") || resumed("h2", "imap") {
		t.Error("a ticket resumed in another class")
	}
	g.end(syscall.SIGTERM)
	if err := os.WriteFile(secret, bytes.Repeat([]byte("x"), 40), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, complaint, err := g.try("", binary, "serve", "--config", g.config); err == nil || !strings.Contains(complaint, "hint: tls.key_file must name the file") {
		t.Errorf("with another key file: %v, %s", err, complaint)
	}
}
