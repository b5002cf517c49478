package ech_test

import (
	"bytes"
	"errors"
	"testing"

	"posthorn/certs/ech"
)

func TestParse(t *testing.T) {
	k, err := ech.Generate(200, "public.example.org", 300)
	if err != nil {
		t.Fatal(err)
	}
	id, name, err := ech.Parse(k.Config)
	if err != nil || id != 200 || name != "public.example.org" {
		t.Errorf("%d, %q, %v", id, name, err)
	}
	list := ech.List(k, k)
	if want := append([]byte{byte(2 * len(k.Config) >> 8), byte(2 * len(k.Config))}, append(k.Config, k.Config...)...); !bytes.Equal(list, want) {
		t.Errorf("list: %x", list)
	}
	for n := range k.Config {
		if _, _, err := ech.Parse(k.Config[:n]); !errors.Is(err, ech.ErrConfig) {
			t.Errorf("the first %d octets: %v", n, err)
		}
	}
	if _, _, err := ech.Parse(append(k.Config, 0)); !errors.Is(err, ech.ErrConfig) {
		t.Errorf("an octet too many: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	k, err := ech.Generate(1, "public.example.org", 20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.Config)
	f.Add([]byte{0xfe, 0x0d, 0, 0})
	f.Fuzz(func(t *testing.T, config []byte) {
		_, name, err := ech.Parse(config)
		if err != nil && (!errors.Is(err, ech.ErrConfig) || name != "") {
			t.Errorf("%q, %v", name, err)
		}
	})
}
