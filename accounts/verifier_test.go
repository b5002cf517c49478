package accounts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestVerifierExample is the exchange of RFC 7677 section 3.
func TestVerifierExample(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	v, err := derive("pencil", string(salt), 4096)
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha256.New, v.serverKey)
	h.Write([]byte("n=user,r=rOprNGfwEbeRWgbNEkqO," +
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," +
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"))
	if got := base64.StdEncoding.EncodeToString(h.Sum(nil)); got != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("server signature %s", got)
	}
	if !v.matches("pencil") || v.matches("Pencil") || v.matches("pencil ") || v.matches("") {
		t.Error("matches is wrong")
	}
}

func TestVerifierEncoding(t *testing.T) {
	v, err := newVerifier("pencil")
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeVerifier(v.encode())
	if err != nil || !cmp.Equal(v, got, cmp.AllowUnexported(verifier{})) {
		t.Errorf("%s became %+v, %v", v.encode(), got, err)
	}
	if other, err := newVerifier("pencil"); err != nil || other.salt == v.salt || v.equal(other) {
		t.Errorf("a second verifier of the same password has salt %x, the first %x, %v", other.salt, v.salt, err)
	}
	for _, bad := range []string{
		"", "SCRAM-SHA-256", "SCRAM-SHA-256$10000:AAAA$AAAA:AAAA", "SCRAM-SHA-1" + string(v.encode()[13:]),
		string(v.encode()[:60]), string(v.encode()) + ":x", "SCRAM-SHA-256$0" + string(v.encode()[19:]), "$$$:::", "pencil",
	} {
		if got, err := decodeVerifier([]byte(bad)); !errors.Is(err, errVerifier) {
			t.Errorf("%q became %+v, %v", bad, got, err)
		}
	}
}

func FuzzDecodeVerifier(f *testing.F) {
	v, err := newVerifier("pencil")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(v.encode())
	f.Add([]byte("SCRAM-SHA-256$1:$:"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeVerifier(b)
		if err != nil {
			return
		}
		again, err := decodeVerifier(v.encode())
		if err != nil || !cmp.Equal(v, again, cmp.AllowUnexported(verifier{})) {
			t.Errorf("%q: %+v became %+v, %v", b, v, again, err)
		}
	})
}

// FuzzParsePlain holds that a PLAIN message is read in one way only.
func FuzzParsePlain(f *testing.F) {
	for _, seed := range []string{"\x00u\x00p", "i\x00u\x00p", "\x00u\x00p\x00", "\x00\x00", "u\x00p", "", "\x00u\x00\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, password, ok := parsePlain(b)
		if !ok {
			if c != (claim{}) || password != "" {
				t.Errorf("%q is refused and yields %+v, %q", b, c, password)
			}
			return
		}
		if c.user == "" || password == "" || c.identity+"\x00"+c.user+"\x00"+password != string(b) {
			t.Errorf("%q is read as %+v, %q", b, c, password)
		}
	})
}
