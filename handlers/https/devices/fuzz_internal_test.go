package devices

import (
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"posthorn/authkeys"
)

// FuzzInspect: what is given never makes it fail badly, and what is put back into
// the form never holds a private key.
func FuzzInspect(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Add([]byte("\xff\xfe-\x00-\x00-\x00-\x00-\x00B\x00E\x00G\x00I\x00N\x00 \x00"))
	f.Add([]byte("ssh-ed25519 AAAA x"))
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x03})
	f.Fuzz(func(t *testing.T, text []byte) {
		err := inspect(text)
		if err != nil && faultOf(err) == nil {
			t.Errorf("nothing is said of %v", err)
		}
		if strings.Contains(string(text), "PRIVATE KEY-----") && (!errors.Is(err, authkeys.ErrPrivateKey) || shown(text) != nil) {
			t.Errorf("%v, and shows %q", err, shown(text))
		}
	})
}

// FuzzCommands: a shell takes the commands apart into openssl's own words, and
// runs nothing else.
func FuzzCommands(f *testing.F) {
	f.Add("alice@example.org", "laptop")
	f.Add(`'; touch x; '@example.org`, `$(touch x)`)
	f.Add("\\'`id`\n$IFS@é", "../..")
	safe := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, address, device string) {
		if strings.ContainsRune(address, 0) {
			return // no address, and no argument of a program, holds it
		}
		file := fileName(address, device)
		if !safe.MatchString(file) || len(file) > 40 {
			t.Fatalf("file name %q", file)
		}
		out, err := exec.Command("sh", "-euc", `openssl() { printf '%s\n' "$#"; for a; do case $a in /CN=*) printf '%s\n' "$a";; esac; done; }`+"\n"+
			commands(address, file, false)).Output()
		want := "7\n17\n" + subject(address) + "\n10\n"
		if err != nil || string(out) != want {
			t.Errorf("%v: %q, want %q", err, out, want)
		}
	})
}
