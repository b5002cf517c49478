package accounts

import (
	"bytes"
	"context"
	"unicode/utf8"
)

// plain is PLAIN (RFC 4616).
type plain struct {
	auth  *Auth
	asked bool
}

func (x *plain) step(ctx context.Context, response []byte) ([]byte, *Login, error) {
	if response == nil && !x.asked {
		x.asked = true
		return nil, nil, nil
	}
	c, password, ok := parsePlain(response)
	if !ok {
		return nil, nil, refuse(Malformed, "PLAIN message")
	}
	l, err := x.auth.password(ctx, c, password)
	return nil, l, err
}

// parsePlain reads [authzid] NUL authcid NUL passwd.
func parsePlain(message []byte) (c claim, password string, ok bool) {
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[2]) == 0 || !utf8.Valid(message) {
		return claim{}, "", false
	}
	c = claim{mechanism: mechPlain, identity: string(parts[0]), user: string(parts[1])}
	return c, string(parts[2]), true
}

// loginExchange is LOGIN (draft-murchison-sasl-login): two questions.
type loginExchange struct {
	auth  *Auth
	asked bool
	user  *string // nil: not yet told
}

func (x *loginExchange) step(ctx context.Context, response []byte) ([]byte, *Login, error) {
	switch {
	case len(response) == 0 && !x.asked: // some clients send an empty initial response for none
		x.asked = true
		return []byte("Username:"), nil, nil
	case x.user == nil:
		user := string(response)
		x.asked, x.user = true, &user
		return []byte("Password:"), nil, nil
	}
	l, err := x.auth.password(ctx, claim{mechanism: mechLogin, user: *x.user}, string(response))
	return nil, l, err
}
