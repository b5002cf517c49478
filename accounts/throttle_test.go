package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"

	"posthorn/accounts"
	"posthorn/authkeys"
)

// inBubble runs a test with alice's and bob's accounts on a clock that jumps.
func inBubble(t *testing.T, o accounts.Options, test func(t *testing.T, d *door)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t, o)
		d.add("alice@example.org", password)
		d.add("bob@example.org", password)
		test(t, d)
	})
}

// guess tries a password on a connection of its own.
func (d *door) guess(from netip.Addr, key authkeys.Fingerprint, user, password string) accounts.Reason {
	_, err := d.NewAuth(peer(from, key)).Password(d.t.Context(), user, password)
	return reason(d.t, err)
}

// fail makes n failures, each on a connection and for a user of its own; it
// returns how many of the passwords were evaluated.
func (d *door) fail(from netip.Addr, n int) (evaluated int) {
	d.t.Helper()
	for i := range n {
		user := fmt.Sprintf("nobody-%d-%d@example.org", time.Now().Unix(), i)
		if d.guess(from, noKey, user, "guess") != accounts.Throttled {
			evaluated++
		}
	}
	return evaluated
}

func TestPerConnection(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		a := d.NewAuth(peer(home, noKey))
		evaluated := 0
		for i := range 200 { // as if pipelined
			var err error
			switch i % 3 {
			case 0:
				_, err = a.Password(t.Context(), "alice@example.org", "guess")
			case 1:
				_, err = exchange(t.Context(), a, sasl.NewPlainClient("", "alice@example.org", "guess"), false)
			case 2:
				_, err = exchange(t.Context(), a, newScram(t, "SCRAM-SHA-256", "alice@example.org", "guess", "", unbound), false)
			}
			switch reason(t, err) {
			case accounts.WrongPassword:
				evaluated++
			case accounts.TooMany:
			default:
				t.Fatal(err)
			}
		}
		if evaluated != 5 {
			t.Errorf("%d passwords were evaluated", evaluated)
		}
		_, err := a.Password(t.Context(), "alice@example.org", password)
		wantReason(t, "the right one at last", err, accounts.TooMany)
		if got := d.guess(home, noKey, "alice@example.org", password); got != "" {
			t.Errorf("on the next connection: %s", got)
		}
	})
}

func TestPerSource(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		if n := d.fail(home, 9); n != 9 {
			t.Fatalf("%d of 9 evaluated", n)
		}
		// A success wipes nothing.
		if got := d.guess(home, noKey, "alice@example.org", password); got != "" {
			t.Fatalf("the right password: %s", got)
		}
		if n := d.fail(home, 5); n != 1 {
			t.Errorf("%d more evaluated, want 1", n)
		}
		if got := d.guess(home, noKey, "alice@example.org", password); got != accounts.Throttled {
			t.Errorf("the right password from a blocked source: %q", got)
		}
		elsewhere := netip.MustParseAddr("192.0.2.2")
		if got := d.guess(elsewhere, noKey, "alice@example.org", password); got != "" {
			t.Errorf("from elsewhere: %s", got)
		}
	})
}

// TestBlocksGrow: a source that goes on after a block is blocked for longer,
// and forgiven when it keeps quiet.
func TestBlocksGrow(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		block := func() time.Duration {
			t.Helper()
			if n := d.fail(home, 12); n != 10 {
				t.Errorf("%d evaluated", n)
			}
			b := d.Blocks()
			if len(b) != 1 || b[0].Source != "192.0.2.1" {
				t.Fatalf("blocks: %+v", b)
			}
			left := time.Until(b[0].Until)
			time.Sleep(left - 3*time.Second) // an attempt waits for 2 s
			if got := d.guess(home, noKey, "alice@example.org", password); got != accounts.Throttled {
				t.Errorf("shortly before the end of the block: %q", got)
			}
			time.Sleep(time.Until(b[0].Until))
			if got := d.guess(home, noKey, "alice@example.org", password); got != "" {
				t.Errorf("after the block: %s", got)
			}
			return left.Round(time.Minute)
		}
		for i, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
			time.Sleep(4 * time.Duration(i) * time.Minute) // which is not quiet enough
			if got := block(); got != want*time.Minute {
				t.Errorf("block %d lasts %v, want %d minutes", i+1, got, want)
			}
		}
		time.Sleep(time.Hour)
		if got := block(); got != 5*time.Minute {
			t.Errorf("after an hour of quiet the block lasts %v", got)
		}
	})
}

// TestWindow: ten in any 20 seconds, not in those of a fixed grid.
func TestWindow(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		for range 15 { // nine in each 20 s
			if n := d.fail(home, 9); n != 9 {
				t.Fatalf("%d of 9 evaluated", n)
			}
			time.Sleep(20 * time.Second)
		}
		d.fail(home, 5)
		time.Sleep(15 * time.Second)
		if n := d.fail(home, 5); n != 5 || len(d.Blocks()) != 1 {
			t.Errorf("%d evaluated, blocks %+v", n, d.Blocks())
		}
	})
}

func TestSources(t *testing.T) {
	for _, c := range []struct {
		name, guesser, other string
		same                 bool
	}{
		{"another IPv4 address", "192.0.2.1", "192.0.2.2", false},
		{"mapped IPv4", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"the same /64", "2001:db8::1", "2001:db8::ffff:0:0:9", true},
		{"another /64", "2001:db8::1", "2001:db8:0:1::1", false},
		{"with a zone", "fe80::1%eth0", "fe80::2%eth1", true},
		{"loopback is a source", "127.0.0.1", "127.0.0.1", true},
		{"another loopback address", "127.0.0.1", "127.0.0.2", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
				d.fail(netip.MustParseAddr(c.guesser), 10)
				got := d.guess(netip.MustParseAddr(c.other), noKey, "alice@example.org", password)
				if (got == accounts.Throttled) != c.same {
					t.Errorf("%s after %s failed: %q", c.other, c.guesser, got)
				}
			})
		})
	}
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		d.fail(netip.Addr{}, 10)
		if got := d.guess(netip.Addr{}, noKey, "alice@example.org", password); got != accounts.Throttled {
			t.Errorf("without an address: %q", got)
		}
		if b := d.Blocks(); len(b) != 1 || b[0].Source != "local" {
			t.Errorf("blocks: %+v", b)
		}
	})
}

// TestAtOnce: a hundred connections that guess at the same moment do not get a
// hundred guesses, and a hundred users who log in at the same moment all do.
func TestAtOnce(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		if got := d.together(100, "guess"); got[accounts.WrongPassword] != 10 || got[accounts.Throttled] != 90 {
			t.Errorf("wrong passwords: %v", got)
		}
	})
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		d.fail(home, 9)
		if got := d.together(100, password); got[""] != 100 {
			t.Errorf("right passwords: %v", got)
		}
	})
}

func (d *door) together(n int, password string) map[accounts.Reason]int {
	got := make([]accounts.Reason, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { got[i] = d.guess(home, noKey, "alice@example.org", password) })
	}
	wg.Wait()
	counts := make(map[accounts.Reason]int)
	for _, r := range got {
		counts[r]++
	}
	return counts
}

// TestKeyIsNotBlocked: what others do at a peer's address does not touch its
// key, nor its password with its key.
func TestKeyIsNotBlocked(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		alice, err := d.ByAddress(t.Context(), "alice@example.org")
		if err != nil {
			t.Fatal(err)
		}
		mine, yours := d.key(alice), d.key(alice)
		d.fail(home, 10)
		for i := range 40 { // alice is slow from anywhere now
			d.guess(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), noKey, "alice@example.org", "guess")
		}
		start := time.Now()
		if _, err := d.NewAuth(peer(home, mine)).Key(t.Context()); err != nil {
			t.Errorf("Key: %v", err)
		}
		if _, err := exchange(t.Context(), d.NewAuth(peer(home, mine)), sasl.NewExternalClient(""), true); err != nil {
			t.Errorf("EXTERNAL: %v", err)
		}
		if got := d.guess(home, mine, "alice@example.org", password); got != "" {
			t.Errorf("her password with her key: %s", got)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("the holder of the key waited %v", took)
		}
		if got := d.guess(home, newFingerprint(), "alice@example.org", password); got != accounts.Throttled {
			t.Errorf("her password with an unknown key: %q", got)
		}

		// A key is no licence to guess, for its own account or others.
		for i := range 10 {
			user := [...]string{"alice@example.org", "bob@example.org"}[i%2]
			if got := d.guess(home, mine, user, "guess"); got != accounts.WrongPassword {
				t.Fatalf("guess %d with a key: %s", i, got)
			}
		}
		if got := d.guess(netip.MustParseAddr("203.0.113.9"), mine, "alice@example.org", password); got != accounts.Throttled {
			t.Errorf("the right password after ten guesses with the key, from elsewhere: %q", got)
		}
		if _, err := d.NewAuth(peer(home, mine)).Key(t.Context()); err != nil {
			t.Errorf("the key itself: %v", err)
		}
		if got := d.guess(home, yours, "alice@example.org", password); got != "" {
			t.Errorf("her other device: %s", got)
		}
	})
}

// TestOwnerGetsIn: guesses from everywhere slow an account, and only so much.
func TestOwnerGetsIn(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		elapsed := func(user, password string, want accounts.Reason) time.Duration {
			t.Helper()
			start := time.Now()
			if got := d.guess(home, noKey, user, password); got != want {
				t.Fatalf("%s: %q, want %q", user, got, want)
			}
			return time.Since(start)
		}
		for i := range 100 {
			from := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
			for _, user := range []string{"Alice@example.org", "nobody@example.org"} {
				d.guess(from, noKey, user, "guess")
			}
		}
		slow := elapsed("alice@example.org", password, "")
		if slow < time.Second || slow > 3*time.Second {
			t.Errorf("the owner waited %v", slow)
		}
		if got := elapsed("nobody@example.org", password, accounts.UnknownUser); got != slow {
			t.Errorf("nobody waited %v, alice %v", got, slow)
		}
		if got := elapsed("bob@example.org", password, ""); got != 0 {
			t.Errorf("bob waited %v", got)
		}
		time.Sleep(time.Hour)
		if got := elapsed("alice@example.org", password, ""); got != 0 {
			t.Errorf("an hour later the owner waited %v", got)
		}
	})
}

// TestDelays: a source that fails waits longer and longer before it is
// blocked, and a blocked one waits as well.
func TestDelays(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		var waits []time.Duration
		for range 11 {
			start := time.Now()
			d.fail(home, 1)
			waits = append(waits, time.Since(start))
		}
		if !slices.IsSorted(waits) || waits[3] != 0 || waits[9] < time.Second || waits[10] > 3*time.Second {
			t.Errorf("waited %v", waits)
		}
	})
}

// TestWaitEnds: a wait ends with its context, and leaves nothing reserved.
func TestWaitEnds(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		d.fail(home, 9)
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err := d.NewAuth(peer(home, noKey)).Password(ctx, "alice@example.org", "guess")
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
		if got := d.guess(home, noKey, "alice@example.org", password); got != "" {
			t.Errorf("after twenty that gave up: %s", got)
		}
	})
}

func TestUnblock(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		six := netip.MustParseAddr("2001:db8::1")
		d.fail(home, 10)
		time.Sleep(time.Second)
		d.fail(six, 10)
		var sources []string
		for _, b := range d.Blocks() {
			sources = append(sources, b.Source)
			if b.Count != 1 || !b.Until.After(time.Now()) {
				t.Errorf("%+v", b)
			}
		}
		if want := []string{"2001:db8::/64", "192.0.2.1"}; !slices.Equal(sources, want) {
			t.Errorf("blocked: %q", sources)
		}
		for source, want := range map[string]bool{"2001:db8::7": true, "192.0.2.1": true, "192.0.2.9/32": false, "2001:db8:1::7/64": false, "local": false} {
			if was, err := d.Unblock(source); was != want || err != nil {
				t.Errorf("Unblock(%s) = %v, %v", source, was, err)
			}
		}
		if b := d.Blocks(); len(b) != 0 {
			t.Errorf("still blocked: %+v", b)
		}
		if got := d.guess(home, noKey, "alice@example.org", password); got != "" {
			t.Errorf("after Unblock: %s", got)
		}
		for _, source := range []string{"", "x", "SHA256:x", "300.0.0.1", "192.0.2.0/24", "2001:db8::/32", "2001:db8::/65"} {
			if _, err := d.Unblock(source); err == nil {
				t.Errorf("Unblock(%q) is no error", source)
			}
		}
	})
}

// TestConfiguredThrottle: the limits are the configured ones.
func TestConfiguredThrottle(t *testing.T) {
	o := accounts.Options{Throttle: accounts.Throttle{PerConn: 1, PerSource: 2, Window: time.Minute, Block: time.Hour}}
	inBubble(t, o, func(t *testing.T, d *door) {
		a := d.NewAuth(peer(home, noKey))
		var got []accounts.Reason
		for range 2 {
			_, err := a.Password(t.Context(), "alice@example.org", "guess")
			got = append(got, reason(t, err))
		}
		time.Sleep(59 * time.Second)
		d.fail(home, 1)
		got = append(got, d.guess(home, noKey, "alice@example.org", password))
		time.Sleep(time.Hour)
		got = append(got, d.guess(home, noKey, "alice@example.org", password))
		want := fmt.Sprint([]accounts.Reason{accounts.WrongPassword, accounts.TooMany, accounts.Throttled, ""})
		if fmt.Sprint(got) != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// SetThrottle holds at once: lower limits count what has happened already, and
// nobody waits for ever.
func TestSetThrottle(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		a := d.NewAuth(peer(home, noKey))
		_, err := a.Password(t.Context(), "alice@example.org", "guess")
		wantReason(t, "the first", err, accounts.WrongPassword)
		d.fail(home, 4)
		d.SetThrottle(accounts.Throttle{PerConn: 1, PerSource: 3, Block: time.Hour})
		_, err = a.Password(t.Context(), "alice@example.org", password)
		wantReason(t, "the second on a connection", err, accounts.TooMany)
		if got := d.guess(home, noKey, "alice@example.org", password); got != accounts.Throttled {
			t.Errorf("after five failures of three: %q", got)
		}
		time.Sleep(time.Hour)
		if got := d.fail(home, 5); got != 3 {
			t.Errorf("%d passwords were evaluated", got)
		}
		d.SetThrottle(accounts.Throttle{PerSource: 6})
		if got := d.guess(home, noKey, "alice@example.org", password); got != accounts.Throttled {
			t.Errorf("a block ended with the limit: %q", got)
		}
		time.Sleep(12 * time.Hour)
		if got := d.fail(home, 10); got != 6 {
			t.Errorf("%d passwords were evaluated", got)
		}
	})
}

// Limits may change while passwords wait to be evaluated.
func TestSetThrottleMeanwhile(t *testing.T) {
	inBubble(t, accounts.Options{}, func(t *testing.T, d *door) {
		var changes sync.WaitGroup
		changes.Go(func() {
			for i := range 50 {
				d.SetThrottle(accounts.Throttle{PerSource: 1 + i%10})
				time.Sleep(10 * time.Millisecond)
			}
		})
		got := d.together(100, "guess")
		changes.Wait()
		if got[accounts.WrongPassword]+got[accounts.Throttled] != 100 || got[accounts.WrongPassword] > 10 {
			t.Errorf("got %v", got)
		}
	})
}
