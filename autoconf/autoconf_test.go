package autoconf_test

import (
	"slices"
	"testing"

	"posthorn/autoconf"
)

// Mail programs are led to certificates that they believe, where there are some.
func TestBelieved(t *testing.T) {
	for name, c := range map[string]struct {
		edit       func(*autoconf.Deployment)
		selfSigned []string
		left       []string
	}{
		"all of a CA":             {nil, nil, nil},
		"the names for 443":       {nil, []string{"imap.example.org", "smtp.example.org"}, []string{"imap.example.org", "smtp.example.org"}},
		"one of them":             {nil, []string{"smtp.example.org"}, []string{"smtp.example.org"}},
		"no choice":               {nil, []string{"imap.example.org", "smtp.example.org", "mail.example.org"}, nil},
		"all offer ALPN":          {func(d *autoconf.Deployment) { d.ALPN = true }, []string{"imap.example.org"}, nil},
		"there is no other port":  {func(d *autoconf.Deployment) { d.IMAP.TLSPort = 0 }, []string{"imap.example.org"}, nil},
		"there is none to forget": {func(d *autoconf.Deployment) { d.IMAP.SharedPort = 0 }, []string{"imap.example.org"}, nil},
	} {
		d := deployment()
		if c.edit != nil {
			c.edit(&d)
		}
		before := d
		told, left := d.Believed(func(name string) bool { return slices.Contains(c.selfSigned, name) })
		if !slices.Equal(left, c.left) || d != before {
			t.Errorf("%s: left out %q; want %q", name, left, c.left)
		}
		for _, s := range []struct{ now, before autoconf.Service }{{told.IMAP, before.IMAP}, {told.Submission, before.Submission}} {
			if slices.Contains(c.left, s.before.SharedName) {
				s.before.SharedPort = 0
			}
			if s.now != s.before {
				t.Errorf("%s: told %+v; want %+v", name, s.now, s.before)
			}
		}
	}
}
