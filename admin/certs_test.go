package admin_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/certs"
	"posthorn/certs/ech"
	"posthorn/certs/zone"
)

// certify gives a world self-signed certificates, and a zone to print.
func (w *world) certify(t testing.TB, publicName string) {
	t.Helper()
	var err error
	w.Certs, err = certs.New(t.Context(), certs.Config{
		Names: []string{"example.org", "imap.example.org"}, ECHPublicName: publicName, Store: w.Store,
		Now: func() time.Time { return time.Now().Add(-time.Minute) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Zones = []zone.Deployment{{
		Domain: "example.org", Hostname: "example.org", IMAP: []string{"imap.example.org"},
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, SharedPort: 443,
	}}
}

func TestCerts(t *testing.T) {
	w := newWorld(t)
	w.certify(t, "")
	c, _ := serve(t, w)
	ctx := t.Context()
	all, err := c.ListCerts(ctx)
	if err != nil || len(all) != 2 || all[1].Name != "imap.example.org" || all[1].Source != certs.SelfSigned || all[1].KeyType != certs.ECDSA {
		t.Fatalf("%+v, %v", all, err)
	}
	one, err := c.ShowCert(ctx, "Imap.Example.ORG.")
	if err != nil || len(one) != 1 || one[0].Fingerprint != all[1].Fingerprint || !slices.Contains(one[0].Names, "imap.example.org") {
		t.Errorf("%+v, %v", one, err)
	}
	again, err := c.RenewCert(ctx, "imap.example.org")
	if err != nil || again[0].Fingerprint != one[0].Fingerprint || again[0].NextRenewal.IsZero() {
		t.Errorf("%+v, %v", again, err)
	}
	if events, err := c.Audit(ctx, 0); err != nil || len(events) != 1 || events[0].Action != "cert renew" || events[0].Detail != "imap.example.org" {
		t.Errorf("audit: %+v, %v", events, err)
	}
	if st, err := c.Status(ctx); err != nil || st.Certificate.Fingerprint != one[0].Fingerprint {
		t.Errorf("status: %+v, %v", st, err)
	}
}

// What a client from outside sees: here another server, as mux has certificates
// of its own.
func TestCheckCert(t *testing.T) {
	w := newWorld(t)
	w.certify(t, "")
	c, _ := serve(t, w)
	check, err := c.CheckCert(t.Context(), "imap.example.org", w.addr)
	if err != nil || check.Address != w.addr || len(check.Problems) < 2 || !strings.Contains(check.Problems[0], certs.ErrOtherKey.Error()) {
		t.Errorf("%+v, %v", check, err)
	}
	for _, r := range check.Records {
		if !strings.HasSuffix(r.Name, "imap.example.org.") {
			t.Errorf("%s", r)
		}
	}
	if len(check.Records) != 3 { // A, SVCB, TLSA
		t.Errorf("%v", check.Records)
	}
	check, err = c.CheckCert(t.Context(), "imap.example.org", "127.0.0.1:1")
	if err != nil || len(check.Problems) != 1 || !check.NotAfter.IsZero() {
		t.Errorf("nobody there: %+v, %v", check, err)
	}
}

func TestRecords(t *testing.T) {
	w := newWorld(t)
	w.certify(t, "example.org")
	c, _ := serve(t, w)
	records, err := c.Records(t.Context(), "Example.org")
	if err != nil {
		t.Fatal(err)
	}
	types := make(map[string]int)
	for _, r := range records {
		types[r.Type]++
	}
	if types["A"] != 2 || types["TLSA"] != 2 || types["HTTPS"] != 1 || types["SVCB"] != 1 || types["SRV"] != 1 {
		t.Errorf("%v", records)
	}
	shown, err := c.ShowECH(t.Context())
	if err != nil || shown.PublicName != "example.org" || !bytes.Equal(shown.ConfigList, w.Certs.ECHConfigList()) || len(shown.Records) != 2 {
		t.Fatalf("%+v, %v", shown, err)
	}
	if _, _, err := ech.Parse(shown.ConfigList[2:]); err != nil {
		t.Error(err)
	}
}

func TestCertErrors(t *testing.T) {
	w := newWorld(t)
	w.certify(t, "")
	c, _ := serve(t, w)
	ctx := t.Context()
	for what, test := range map[string]struct {
		do   func() error
		want error
		code string
	}{
		"show":   {func() error { _, err := c.ShowCert(ctx, "example.com"); return err }, certs.ErrNotServed, admin.CodeNoCert},
		"renew":  {func() error { _, err := c.RenewCert(ctx, "a/../b"); return err }, certs.ErrNotServed, admin.CodeNoCert},
		"check":  {func() error { _, err := c.CheckCert(ctx, "example.com", ""); return err }, certs.ErrNotServed, admin.CodeNoCert},
		"domain": {func() error { _, err := c.Records(ctx, "imap.example.org"); return err }, accounts.ErrDomain, admin.CodeDomain},
		"ECH":    {func() error { _, err := c.ShowECH(ctx); return err }, admin.ErrNoECH, admin.CodeNoECH},
	} {
		var p *admin.Problem
		if err := test.do(); !errors.Is(err, test.want) || !errors.As(err, &p) || p.Code != test.code || p.Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, name := range []string{"", ".", ".."} {
		var invalid *admin.InvalidError
		if _, err := c.ShowCert(ctx, name); !errors.As(err, &invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if events, err := c.Audit(ctx, 0); err != nil || len(events) != 0 {
		t.Errorf("what was refused is in the audit trail: %+v, %v", events, err)
	}
}
