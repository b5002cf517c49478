package admin_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"

	"posthorn/accounts"
	"posthorn/admin"
	"posthorn/store"
)

// many is how many accounts the benchmarks have.
const many = 100_000

// populate creates many accounts, in the store's own form: through the operations it
// would take minutes.
func (w *world) populate(b *testing.B) {
	b.Helper()
	for first := 0; first < many; first += 500 {
		err := w.Store.Update(b.Context(), func(tx store.Tx) error {
			for i := first; i < first+500; i++ {
				id, address := fmt.Sprintf("a%015d", i*7919%many), fmt.Sprintf("user%06d@example.org", i)
				record, err := json.Marshal(accounts.Account{ID: id, Addresses: []string{address}, Password: true})
				if err != nil {
					return err
				}
				if err := tx.Put(accounts.Prefix+id, record); err != nil {
					return err
				}
				if err := tx.Put("address/"+address, []byte(id)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if a, err := w.Accounts.ByAddress(b.Context(), "user012345@example.org"); err != nil || a.Primary() != "user012345@example.org" {
		b.Fatal(a, err)
	}
}

// next returns the cursor of the page behind one.
func (p *port) next(b *testing.B, path string) string {
	b.Helper()
	var page struct {
		Next  string
		Items []json.RawMessage
	}
	w := p.do("GET", admin.APIPath+path, "")
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page.Items) == 0 {
		b.Fatalf("%s: %d %.300s", path, w.Code, w.Body)
	}
	return page.Next
}

// BenchmarkAccountPage gets pages of a list of 100,000 accounts.
func BenchmarkAccountPage(b *testing.B) {
	p := portOf(quietWorld(b))
	p.conn.Key = p.operator
	p.populate(b)
	middle := p.next(b, "/accounts?text=user05&limit=1000")
	for name, path := range map[string]string{
		"first": "/accounts?limit=100", "middle": "/accounts?limit=100&cursor=" + url.QueryEscape(middle), "search": "/accounts?limit=100&text=user0567",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.next(b, path)
			}
		})
	}
}

// BenchmarkAuditPage gets the first page of an audit trail that is full.
func BenchmarkAuditPage(b *testing.B) {
	p := portOf(quietWorld(b))
	p.conn.Key = p.operator
	for range 10_000 {
		if err := p.RemoveBlock(b.Context(), operator, "192.0.2.1"); err == nil {
			b.Fatal("nobody is blocked")
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		p.next(b, "/audit?limit=100")
	}
}
