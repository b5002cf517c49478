package accounts_test

import (
	"encoding/base64"
	"testing"

	"posthorn/accounts"
)

// FuzzExternal holds that nothing but an address of the key's own account is
// an authorization identity, and that all else is a refusal.
func FuzzExternal(f *testing.F) {
	d := newDoor(f, accounts.Options{})
	alice := d.add("alice@example.org", "", "al@bücher.example")
	d.add("bob@example.org", "")
	p := peer(home, d.key(alice))
	for _, seed := range []string{"", "alice@example.org", "AL@Bücher.example", "bob@example.org", "alice@example.org\x00", "@", "\xff", `"alice"@example.org`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, response []byte) {
		x, err := d.NewAuth(p).Start(t.Context(), "EXTERNAL")
		if err != nil {
			t.Fatal(err)
		}
		if response == nil {
			response = []byte{}
		}
		_, done, err := x.Next(response)
		own := len(response) == 0 || alice.Has(string(response))
		if done != own || done != (reason(t, err) == "") {
			t.Errorf("%q: done %v, %v", response, done, err)
		}
		if done && (x.Login().Account.ID != alice.ID || !x.Login().Account.Has(x.Login().Address)) {
			t.Errorf("%q: %+v", response, x.Login())
		}
	})
}

// FuzzScram sends messages of people who do not know the password.
func FuzzScram(f *testing.F) {
	d := newDoor(f, accounts.Options{Throttle: accounts.Throttle{PerSource: 1 << 30}})
	d.add("alice@example.org", password)
	here, there := tlsPair(f, nil)
	p := peer(home, noKey)
	p.TLS = there
	header := "p=tls-exporter,,"
	bind := base64.StdEncoding.EncodeToString(append([]byte(header), bindingTo(f, here).Data...))
	for _, seed := range [][2]string{
		{"n,,n=alice@example.org,r=abc", "c=biws,r=abc,p=AAAA"},
		{"y,,n=alice@example.org,r=abc", "c=eSws,r=abc,p="},
		{header + "n=alice@example.org,r=abc", "c=" + bind + ",r=abc,p=AAAA"},
		{"p=tls-unique,a=bob@example.org,n=alice@example.org,r=", ""},
		{"n,a==2C,n==3D,r=,x=y,", "c=,r=,p="},
		{",,,", ",,"},
		{"n,,m=,n=,r=", "\x00"},
	} {
		f.Add(seed[0], seed[1], true)
		f.Add(seed[0], seed[1], false)
	}
	f.Fuzz(func(t *testing.T, first, final string, bound bool) {
		mech := "SCRAM-SHA-256"
		if bound {
			mech = plus
		}
		x, err := d.NewAuth(p).Start(t.Context(), mech)
		if err != nil {
			t.Fatal(err)
		}
		for _, response := range []string{first, final, ""} {
			_, done, err := x.Next([]byte(response))
			if done || x.Login() != nil {
				t.Fatalf("%s logged in with %q, %q", mech, first, final)
			}
			if reason(t, err) != "" {
				return
			}
		}
		t.Errorf("%s: neither done nor refused after %q, %q", mech, first, final)
	})
}
