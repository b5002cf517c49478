package accounts_test

import (
	"errors"
	"strings"
	"testing"

	"posthorn/accounts"
)

func TestParseAddress(t *testing.T) {
	local64, domain253 := strings.Repeat("a", 64), strings.Repeat("a.", 126)+"a"
	for in, want := range map[string]string{
		"alice@example.org":          "alice@example.org",
		"Alice@Example.ORG":          "alice@example.org",
		"a.b+c/d=e@localhost":        "a.b+c/d=e@localhost",
		"!#$%&'*+-/=?^_`{|}~@x.test": "!#$%&'*+-/=?^_`{|}~@x.test",
		"-x@example.org":             "-x@example.org",
		"Jörg@Bücher.example":        "jörg@xn--bcher-kva.example",
		"jo\u0308rg@example.org":     "jörg@example.org",
		"A\u030Angström@example.org": "ångström@example.org",
		"H\u0331@x.test":             "\u1e96@x.test",
		"\u212Bngstr\u00F6m@x.test":  "ångström@x.test",
		"δοκιμή@παράδειγμα.δοκιμή":   "δοκιμή@xn--hxajbheg2az3al.xn--jxalpdlp",
		"用户@例子。测试":                   "用户@xn--fsqu00a.xn--0zwm56d",
		"a@XN--BCHER-KVA.example":    "a@xn--bcher-kva.example",
		"a@_relay.example.org":       "a@_relay.example.org",
		"a@sub-1.example.org":        "a@sub-1.example.org",
		local64 + "@x.test":          local64 + "@x.test",
		"a@" + domain253:             "a@" + domain253,
	} {
		got, err := accounts.ParseAddress(in)
		if err != nil || got != want {
			t.Errorf("ParseAddress(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "@", "alice", "alice@", "@example.org", "a b@example.org", " a@example.org", "a@example.org ",
		`"a"@example.org`, `"x@evil"@example.org`, `"a b"@x.test`, "a@b@c", "a\x00@x.test", "a@x\x00.test",
		"a\r\n@x.test", "a@x.test\r\n", "a\n@x.test", "a\t@x.test", "a\x7f@x.test", "a\u0085@x.test",
		".a@x.test", "a.@x.test", "a..b@x.test", "a@.x", "a@x.", "a@x..y", "a@-x.test", "a@x-.test",
		"a@[127.0.0.1]", "a@[IPv6:::1]", "a@127.0.0.1", "a@::1", "a@１２７.0.0.1", "a@x.test:25", "a@x/y", "a@*",
		"a,b@x.test", "a;b@x.test", "a:b@x.test", "<a@x.test>", "a(b)@x.test", `a\b@x.test`, "a[b]@x.test",
		"a\u200bb@x.test", "a\u202eb@x.test", "a\u00a0b@x.test", "a\ufeff@x.test", "a\u2028@x.test", "\ufffd@x.test",
		"a\ufe0f@x.test", "a\U000e0100@x.test", "a\u034f@x.test", "a\u3164@x.test", "a\u115f@x.test", "a\u2800@x.test", "\u17b4a@x.test",
		"\xff@x.test", "a@\xff.test", "a@xn--a.test", "a@b＠c.test", "a@%41.test",
		local64 + "a@x.test", strings.Repeat("ö", 33) + "@x.test", "a@" + domain253 + ".b",
		"a@" + strings.Repeat("b", 64) + ".test", strings.Repeat("a", 100000) + "@x.test",
		"a@" + strings.Repeat("b.", 100000), strings.Repeat("@", 5000),
	} {
		if got, err := accounts.ParseAddress(in); !errors.Is(err, accounts.ErrAddress) || got != "" {
			t.Errorf("ParseAddress(%.40q) = %q, %v; want ErrAddress", in, got, err)
		}
	}
}

// FuzzParseAddress holds that a normalized address is normal, and safe to
// stand in a line, a path and a key of the store.
func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{
		"alice@example.org", "Jörg@Bücher.example", "İ@x", "K@K.x", "ẞ@ẞ.x", "ϴ\u0345@x", "a@xn--bcher-kva", `"q"@x`, "a@[::1]", "ſ@x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := accounts.ParseAddress(in)
		if err != nil {
			if !errors.Is(err, accounts.ErrAddress) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		if again, err := accounts.ParseAddress(got); err != nil || again != got {
			t.Errorf("%+q became %+q, and that %+q, %v", in, got, again, err)
		}
		if strings.ContainsAny(got, "\x00\r\n\t \"<>\\") || strings.Count(got, "@") != 1 || len(got) > 64+1+253 {
			t.Errorf("%+q became %+q", in, got)
		}
		if upper, err := accounts.ParseAddress(strings.ToUpper(got)); err == nil && len(upper) == len(got) && upper != got && isASCII(got) {
			t.Errorf("%q in upper case became %q", got, upper)
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 127 })
}
