package accounts

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrPassword says that a password cannot be set; the error that wraps it says
// why and repeats none of it.
var ErrPassword = errors.New("password cannot be used")

// maxPassword is in octets; see RFC 8265 section 4.1 on why there is a limit.
const maxPassword = 1024

// checkPassword finds what derive does not.
func checkPassword(password string) error {
	visible := func(r rune) bool { return unicode.IsPrint(r) && !unicode.IsMark(r) }
	switch {
	case len(password) > maxPassword:
		return fmt.Errorf("%w: longer than %d octets", ErrPassword, maxPassword)
	case !utf8.ValidString(password):
		return fmt.Errorf("%w: not UTF-8", ErrPassword)
	case !strings.ContainsFunc(password, visible):
		// SASLprep maps most invisible characters to nothing.
		return fmt.Errorf("%w: it has no visible character", ErrPassword)
	}
	return nil
}

// passwordAlphabet leaves out what looks like something else: i, l, o, 0, 1.
const passwordAlphabet = "abcdefghjkmnpqrstuvwxyz23456789"

// GeneratePassword returns a random password that people can type: four groups
// of five lower-case letters and digits with hyphens between, 99 bits.
func GeneratePassword() string {
	const groups, size = 4, 5
	var b strings.Builder
	for i := range groups * size {
		if i > 0 && i%size == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(randomCharacter())
	}
	return b.String()
}

// randomCharacter picks one of passwordAlphabet, each as likely.
func randomCharacter() byte {
	const fair = 256 - 256%len(passwordAlphabet)
	for {
		var b [1]byte
		rand.Read(b[:]) // never fails
		if int(b[0]) < fair {
			return passwordAlphabet[int(b[0])%len(passwordAlphabet)]
		}
	}
}
