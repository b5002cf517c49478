package sites_test

import (
	"errors"
	"testing"

	"github.com/rs/zerolog"

	"posthorn/handlers/https/sites"
)

// A host that is kept from all sites is kept from those that name it, whichever
// comes first.
func TestNobody(t *testing.T) {
	elsewhere := &sites.Redirect{To: "https://example.org/"}
	none, some := sites.Site{Hosts: []string{"admin.test"}, Nobody: true}, sites.Site{Hosts: []string{"a.test", "admin.test"}, Redirect: elsewhere}
	handed := sites.Site{Hosts: []string{"admin.test"}, Handover: &sites.Handover{HTTP1: "127.0.0.1:1"}}
	for name, all := range map[string][]sites.Site{
		"first":         {none, some},
		"last":          {some, none},
		"handed over":   {handed, none},
		"handed later":  {none, handed},
		"twice":         {none, none},
		"without hosts": {{Nobody: true}},
		"of two kinds":  {{Hosts: []string{"a.test"}, Nobody: true, Redirect: elsewhere}},
	} {
		if set, err := sites.New(all, zerolog.Nop()); !errors.As(err, new(*sites.SiteError)) {
			t.Errorf("%s: %v, no *SiteError", name, err)
			if set != nil {
				set.Close()
			}
		}
	}
	set, err := sites.New([]sites.Site{{Redirect: elsewhere}, none}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	set.Close()
}
