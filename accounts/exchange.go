package accounts

import (
	"context"
	"strings"
	"unicode/utf8"
)

// The SASL mechanisms, by their registered names.
const (
	mechExternal  = "EXTERNAL"
	mechScramPlus = "SCRAM-SHA-256-PLUS"
	mechScram     = "SCRAM-SHA-256"
	mechPlain     = "PLAIN"
	mechLogin     = "LOGIN"
)

// maxResponse bounds a client's response; the largest that can succeed is a
// PLAIN one with two addresses and a password.
const maxResponse = 4096

// Mechanisms returns the SASL mechanisms to advertise, strongest first;
// EXTERNAL is among them only when Key would succeed, SCRAM only when all
// passwords are kept here.
func (a *Auth) Mechanisms(ctx context.Context) []string {
	if a.peer.TLS == nil {
		return nil
	}
	var names []string
	if _, err := a.store.byKey(ctx, a.peer); err == nil {
		names = append(names, mechExternal)
	}
	if a.peer.Passwords == nil {
		if len(bindings(a.peer.TLS)) > 0 {
			names = append(names, mechScramPlus)
		}
		names = append(names, mechScram)
	}
	return append(names, mechPlain, mechLogin)
}

// Start begins a SASL exchange, which ctx bounds. A mechanism that is not
// offered is a *RefusedError with BadMechanism.
func (a *Auth) Start(ctx context.Context, mechanism string) (*Exchange, error) {
	if a.peer.TLS == nil {
		return nil, refuse(BadMechanism, "no TLS")
	}
	name := strings.ToUpper(mechanism) // RFC 4422 section 3.1 has them in upper case; not all clients do
	x := &Exchange{}
	switch name {
	case mechExternal:
		_, err := a.store.byKey(ctx, a.peer)
		if isRefusal(err) {
			return nil, refuse(BadMechanism, "EXTERNAL: "+err.Error())
		}
		if err != nil {
			return nil, err
		}
		x.step = (&external{auth: a}).step
	case mechScramPlus, mechScram:
		if a.peer.Passwords != nil {
			return nil, refuse(BadMechanism, "the mail system keeps passwords")
		}
		b := bindings(a.peer.TLS)
		if name == mechScramPlus && len(b) == 0 {
			return nil, refuse(BadMechanism, "no channel binding on this connection")
		}
		x.step = (&scramExchange{auth: a, name: name, bindings: b}).step
	case mechPlain:
		x.step = (&plain{auth: a}).step
	case mechLogin:
		x.step = (&loginExchange{auth: a}).step
	default:
		return nil, refuse(BadMechanism, "")
	}
	x.ctx = ctx
	return x, nil
}

// Exchange is one SASL exchange (RFC 4422). It implements go-sasl's Server.
type Exchange struct {
	ctx   context.Context // Start's: go-sasl's Next has none
	step  step            // nil: the exchange is over
	login *Login
}

// step takes a response and returns the next challenge, or who logged in. The
// response is nil when there is none, and not nil when it is empty.
type step func(ctx context.Context, response []byte) (challenge []byte, l *Login, err error)

// Next takes the client's response, nil when there was no initial response,
// and returns the next challenge, or done. A nil challenge without done and
// without error asks for the response with an empty challenge. After done or
// an error the exchange is over.
func (x *Exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	if x.step == nil {
		return nil, false, refuse(Malformed, "the exchange is over")
	}
	if len(response) > maxResponse {
		x.step = nil
		return nil, false, refuse(Malformed, "response is too long")
	}
	challenge, x.login, err = x.step(x.ctx, response)
	if err != nil || x.login != nil {
		x.step = nil
	}
	return challenge, x.login != nil, err
}

// Login is who logged in, once Next has returned done and no error.
func (x *Exchange) Login() *Login { return x.login }

// isText reports whether a response is UTF-8 without control characters, as
// every name and SCRAM message has to be.
func isText(response []byte) bool {
	for _, c := range response {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.Valid(response)
}
