package accounts

import "testing"

// FuzzIsPlainDomain holds that the short way leads where the long one does.
func FuzzIsPlainDomain(f *testing.F) {
	for _, seed := range []string{
		"example.org", "a-b.example", "xn--bcher-kva.example", "-a.example", "a-.example", "a--b.example", "1.2.3.4", "a..b", ".a", "a.",
		"Example.org", "_a.example", "bücher.example", "",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !isPlainDomain(s) {
			return
		}
		if d, err := domains.ToASCII(s); d != s || err != nil {
			t.Errorf("%q: %q, %v", s, d, err)
		}
	})
}
