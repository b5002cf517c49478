package accounts_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"posthorn/accounts"
	"posthorn/authkeys"
	"posthorn/store"
	"posthorn/store/storetest"
)

func TestAccountLife(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	a := d.add("Alice@Example.org", password)
	if !regexp.MustCompile(`^[a-z2-7]{16,}$`).MatchString(a.ID) {
		t.Errorf("ID %q", a.ID)
	}
	if a.Primary() != "alice@example.org" || !a.Password || a.Disabled || a.Created.IsZero() {
		t.Errorf("new account: %+v", a)
	}
	if err := d.AddAddress(ctx, a.ID, "Ally@example.org"); err != nil {
		t.Fatal(err)
	}
	b := d.add("bob@example.org", "")
	if b.Password {
		t.Error("bob has a password")
	}

	a, err := d.ByAddress(ctx, "ALLY@EXAMPLE.ORG")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"alice@example.org", "ally@example.org"}; !slices.Equal(a.Addresses, want) {
		t.Errorf("addresses %q", a.Addresses)
	}
	if !a.Has("ALICE@example.org") || !a.Has("ally@example.org") || a.Has("bob@example.org") || a.Has("junk") {
		t.Error("Has is wrong")
	}
	if again, err := d.Get(ctx, a.ID); err != nil || !cmp.Equal(a, again) {
		t.Errorf("Get: %+v, %v", again, err)
	}

	if err := d.SetDisabled(ctx, a.ID, true); err != nil {
		t.Fatal(err)
	}
	if err := d.SetPassword(ctx, b.ID, "new"); err != nil {
		t.Fatal(err)
	}
	if err := d.SetPassword(ctx, a.ID, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.RemoveAddress(ctx, a.ID, "Alice@example.org"); err != nil {
		t.Fatal(err)
	}
	if a, err = d.Get(ctx, a.ID); err != nil || !a.Disabled || a.Password || a.Primary() != "ally@example.org" {
		t.Errorf("after the changes: %+v, %v", a, err)
	}
	if err := d.AddAddress(ctx, b.ID, "alice@example.org"); err != nil {
		t.Errorf("an address that was given up: %v", err)
	}
	if b, err = d.Get(ctx, b.ID); err != nil || !b.Password {
		t.Errorf("bob after SetPassword: %+v, %v", b, err)
	}

	var ids []string
	for a, err := range d.List(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, a.ID)
	}
	if want := []string{a.ID, b.ID}; len(ids) != 2 || !slices.IsSorted(ids) || !slices.Contains(want, ids[0]) {
		t.Errorf("List: %q", ids)
	}
}

func TestAddressErrors(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{Domains: []string{"Example.org", "bücher.example"}}), t.Context()
	a := d.add("alice@example.org", "", "al@xn--bcher-kva.example")
	b := d.add("bob@EXAMPLE.org", "")

	_, err := d.Add(ctx, "ALICE@example.org", "")
	wantErr(t, "Add of a taken address", err, accounts.ErrTaken)
	wantErr(t, "AddAddress of another's", d.AddAddress(ctx, b.ID, "al@bücher.example"), accounts.ErrTaken)
	wantErr(t, "AddAddress of its own", d.AddAddress(ctx, b.ID, "bob@example.org"), accounts.ErrTaken)
	_, err = d.Add(ctx, "carol@example.com", "")
	wantErr(t, "Add in another domain", err, accounts.ErrDomain)
	if !strings.Contains(err.Error(), "example.org, xn--bcher-kva.example") {
		t.Errorf("%v does not name the domains", err)
	}
	wantErr(t, "AddAddress in a subdomain", d.AddAddress(ctx, b.ID, "bob@sub.example.org"), accounts.ErrDomain)
	_, err = d.Add(ctx, `"a b"@example.org`, "")
	wantErr(t, "Add of a quoted string", err, accounts.ErrAddress)
	_, err = d.Add(ctx, "dora@example.org", strings.Repeat("x", 2000))
	wantErr(t, "Add with a long password", err, accounts.ErrPassword)
	if strings.Contains(err.Error(), "xxx") {
		t.Error("the error repeats the password")
	}
	_, err = d.ByAddress(ctx, "dora@example.org")
	wantErr(t, "ByAddress after a failed Add", err, accounts.ErrNoAccount)
	wantErr(t, "RemoveAddress of the last", d.RemoveAddress(ctx, b.ID, "bob@example.org"), accounts.ErrLast)
	wantErr(t, "RemoveAddress of another's", d.RemoveAddress(ctx, b.ID, "alice@example.org"), accounts.ErrNoAccount)
	wantErr(t, "RemoveAddress of nonsense", d.RemoveAddress(ctx, b.ID, "@@"), accounts.ErrNoAccount)

	for _, id := range []string{"", "x", "../" + a.ID, a.ID + "/", strings.ToUpper(a.ID), strings.Repeat("a", 5000)} {
		_, err := d.Get(ctx, id)
		wantErr(t, "Get", err, accounts.ErrNoAccount)
		wantErr(t, "SetDisabled", d.SetDisabled(ctx, id, true), accounts.ErrNoAccount)
		wantErr(t, "SetPassword", d.SetPassword(ctx, id, "x"), accounts.ErrNoAccount)
		wantErr(t, "AddAddress", d.AddAddress(ctx, id, "new@example.org"), accounts.ErrNoAccount)
		_, err = d.Remove(ctx, id)
		wantErr(t, "Remove", err, accounts.ErrNoAccount)
	}
	_, err = d.ByAddress(ctx, "new@example.org")
	wantErr(t, "an address of nobody's", err, accounts.ErrNoAccount)

	if _, err := accounts.New(ctx, d.kv, d.keys, accounts.Options{Domains: []string{"a b"}}); err == nil {
		t.Error("New takes a bad domain")
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	before := dump(t, d.kv)
	a := d.add("alice@example.org", password, "al@example.org")
	k := d.key(a)
	d.key(a)
	removed, err := d.Remove(ctx, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	if removed.ID != a.ID || len(removed.Addresses) != 2 {
		t.Errorf("Remove returned %+v", removed)
	}
	if diff := cmp.Diff(before, dump(t, d.kv)); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
	_, err = d.keys.Lookup(ctx, k)
	wantErr(t, "Lookup of its key", err, authkeys.ErrUnknown)
	if b := d.add("al@example.org", ""); b.ID == a.ID {
		t.Error("the ID was used again")
	}
}

// TestSecretsStandApart: whoever shows accounts cannot show verifiers.
func TestSecretsStandApart(t *testing.T) {
	d := newDoor(t, accounts.Options{})
	a := d.add("alice@example.org", password)
	shown, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	all := dump(t, d.kv)
	for _, text := range []string{string(shown), all[accounts.Prefix+a.ID]} {
		if strings.Contains(text, "SCRAM") || !strings.Contains(text, `"has_password":true`) {
			t.Errorf("account record: %s", text)
		}
	}
	for key, value := range all {
		if bytes.Contains([]byte(value), []byte(password)) {
			t.Errorf("%s holds the password", key)
		}
	}
	if v := all["password/"+a.ID]; !strings.HasPrefix(v, "SCRAM-SHA-256$10000:") {
		t.Errorf("verifier: %q", v)
	}
}

func dump(t *testing.T, kv store.KV) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for item, err := range kv.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all[item.Key] = string(item.Value)
	}
	return all
}

// TestAddAtOnce: of many who want an address, one gets it.
func TestAddAtOnce(t *testing.T) {
	d, ctx := newDoor(t, accounts.Options{}), t.Context()
	other := d.add("other@example.org", "")
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			if i%4 == 0 {
				errs[i] = d.AddAddress(ctx, other.ID, "Alice@example.org")
				return
			}
			_, errs[i] = d.Add(ctx, "alice@example.org", "")
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, accounts.ErrTaken) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d won", won)
	}
	owners := 0
	for a, err := range d.List(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if a.Has("alice@example.org") {
			owners++
		}
	}
	if owners != 1 {
		t.Errorf("%d accounts have the address", owners)
	}
}

func TestGeneratePassword(t *testing.T) {
	shape := regexp.MustCompile(`^([a-hjkmnp-z2-9]{5}-){3}[a-hjkmnp-z2-9]{5}$`)
	seen, counts := make(map[string]bool), make(map[rune]int)
	for range 2000 {
		p := accounts.GeneratePassword()
		if !shape.MatchString(p) || seen[p] {
			t.Fatalf("%q", p)
		}
		seen[p] = true
		for _, c := range p {
			counts[c]++
		}
	}
	for c, n := range counts { // 40000/31 = 1290 expected of each, σ = 35
		if c != '-' && (n < 1290-250 || n > 1290+250) {
			t.Errorf("%c came %d times", c, n)
		}
	}
	d := newDoor(t, accounts.Options{})
	p := accounts.GeneratePassword()
	d.add("alice@example.org", p)
	if _, err := d.NewAuth(peer(home, noKey)).Password(t.Context(), "alice@example.org", p); err != nil {
		t.Error(err)
	}
}

// TestListAfter: each account stands in the list once, by its primary address.
func TestListAfter(t *testing.T) {
	d := openDoor(t, storetest.Memory(t), accounts.Options{})
	bob := d.add("bob@example.org", "", "aaa@example.org", "zzz@example.org")
	d.add("carol@example.org", "")
	d.add("alice@example.org", "", "bobby@example.org")
	gone := d.add("bill@example.org", "")
	if _, err := d.Remove(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	list := func(after string) (all []string) {
		for a, err := range d.ListAfter(t.Context(), after) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, a.Primary())
		}
		return all
	}
	for after, want := range map[string]string{
		"": "alice@ bob@ carol@", "alice@example.org": "bob@ carol@", "bill@example.org": "bob@ carol@", "b": "bob@ carol@",
		"carol@example.org": "", "aaa@example.org": "alice@ bob@ carol@",
	} {
		if got := strings.ReplaceAll(strings.Join(list(after), " "), "example.org", ""); got != want {
			t.Errorf("after %q: %q, want %q", after, got, want)
		}
	}
	if n, err := d.Count(t.Context()); n != 3 || err != nil {
		t.Errorf("%d accounts, %v", n, err)
	}
	if err := d.RemoveAddress(t.Context(), bob.ID, bob.Primary()); err != nil {
		t.Fatal(err)
	}
	if got := list(""); len(got) != 3 || got[0] != "aaa@example.org" {
		t.Errorf("with another primary address: %q", got)
	}
}
