package account

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// FuzzSafeNext: whatever a link says, signing in leads to one of our own pages.
func FuzzSafeNext(f *testing.F) {
	for _, seed := range []string{"", Home, SignIn, "/account/security?x=1#y", "https://evil.example/account/", "//evil.example",
		"/\\evil.example", "/account/../x", "/account/%2e%2e/%2e%2e/x", "/account/%5cevil", "/account/\r\nX: y", "/account/%0a", "/account//x", "/account/?next=//evil", "/account/%2e%2e00"} {
		f.Add(seed)
	}
	base := &url.URL{Scheme: "https", Host: "mail.example.org", Path: SignIn}
	f.Fuzz(func(t *testing.T, next string) {
		got := safeNext(next)
		u, err := base.Parse(got)
		if err != nil || u.Host != base.Host || u.Scheme != base.Scheme || !strings.HasPrefix(u.Path, Home) ||
			strings.HasPrefix(got, "//") || strings.ContainsAny(got, "\\\r\n\t") || !strings.HasPrefix(path.Clean(u.Path)+"/", Home) {
			t.Errorf("%q leads to %q (%v)", next, got, err)
		}
		if safeNext(got) != got {
			t.Errorf("%q, then %q", got, safeNext(got))
		}
	})
}

// Programs are told by their usual names; what is unusual is shown as it is.
func TestProgram(t *testing.T) {
	for userAgent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                  "Firefox, Linux",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1": "Safari, iPhone",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Mobile Safari/537.36":                         "Chrome, Android",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36 Edg/137.0.0.0":           "Edge, Windows",
		"curl/8.5.0": "curl/8.5.0",
		"":           "",
	} {
		if got := program(userAgent); got != want {
			t.Errorf("%s: %q, want %q", userAgent, got, want)
		}
	}
}
