package backend

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// What was told is known for a while, of so many users.
func TestRecall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recall
		at := loginAt{"127.0.0.1:143", "alice@example.org"}
		r.keep(at, "IMAP4rev1")
		time.Sleep(recallTime - time.Second)
		if got := r.list(at); got != "IMAP4rev1" {
			t.Errorf("%q", got)
		}
		for _, other := range []loginAt{{at.address, "bob@example.org"}, {"127.0.0.2:143", at.user}} {
			if got := r.list(other); got != "" {
				t.Errorf("%v: %q", other, got)
			}
		}
		time.Sleep(time.Second)
		if got := r.list(at); got != "" {
			t.Errorf("%q, after its time", got)
		}
		for i := range 3 * recallMost {
			r.keep(loginAt{at.address, strconv.Itoa(i)}, "IMAP4rev1")
		}
		if len(r.lists) > recallMost {
			t.Errorf("%d lists are kept", len(r.lists))
		}
	})
}
