package backend

import (
	"cmp"
	"encoding/base64"
	"strings"
)

// credentials are a user name and a password, as SASL PLAIN sends them.
type credentials struct {
	identity string // authorization identity; empty: user
	user     string
	password string
}

// name is that of the user who logs in.
func (c *credentials) name() string { return cmp.Or(c.identity, c.user) }

// plain is the response of SASL PLAIN (RFC 4616).
func (c *credentials) plain() []byte {
	return []byte(c.identity + "\x00" + c.user + "\x00" + c.password)
}

// withheld stands for what a server has said when that repeats the password.
const withheld = "(withheld, as it repeats the password)"

// repeatedIn reports whether the password is in a server's text, in any of the
// forms in which it was sent.
func (c *credentials) repeatedIn(text string) bool {
	if c.password == "" {
		return false
	}
	quoted := string(appendQuoted(nil, c.password))
	for _, form := range []string{c.password, printable(c.password), quoted[1 : len(quoted)-1], base64.StdEncoding.EncodeToString(c.plain())} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}
