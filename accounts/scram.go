package accounts

import (
	"context"
	"crypto/tls"
	"strings"

	"github.com/xdg-go/scram"
)

// scramExchange is SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677).
type scramExchange struct {
	auth     *Auth
	name     string
	bindings []scram.ChannelBinding // what the connection has; none: PLUS is not offered

	asked    bool
	conv     *scram.ServerConversation // nil: before the client's first message
	verifier verifier                  // what conv works with
	login    *Login                    // once the proof has been taken
}

func (x *scramExchange) step(ctx context.Context, response []byte) ([]byte, *Login, error) {
	switch {
	case response == nil && !x.asked && x.conv == nil:
		x.asked = true
		return nil, nil, nil
	case !isText(response):
		return nil, nil, refuse(Malformed, "SCRAM message")
	case x.conv == nil:
		challenge, err := x.first(ctx, string(response))
		return challenge, nil, err
	case x.login == nil:
		challenge, err := x.final(ctx, string(response))
		return challenge, nil, err
	case len(response) > 0:
		return nil, nil, refuse(Malformed, "SCRAM: a response after the last one")
	}
	// The client has taken the server's proof as well. It may have let time
	// pass before it said so.
	if err := x.auth.store.Check(ctx, x.login); err != nil {
		return nil, nil, err
	}
	return nil, x.login, nil
}

// first takes the client-first-message. Nothing in the answer depends on
// whether the user exists.
func (x *scramExchange) first(ctx context.Context, message string) ([]byte, error) {
	binding, err := x.binding(message)
	if err != nil {
		return nil, err
	}
	var failed error // of the store
	server, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		var cand candidate
		cand, failed = x.auth.store.candidate(ctx, user)
		x.verifier = cand.verifier
		return cand.verifier.credentials(), failed
	})
	if err != nil {
		return nil, err
	}
	x.conv = server.NewConversationWithChannelBinding(binding)
	answer, err := x.conv.Step(message)
	switch {
	case failed != nil:
		return nil, failed
	case err != nil:
		return nil, refuse(scramReason(answer), "SCRAM first message")
	}
	return []byte(answer), nil
}

// binding returns the channel binding for a client-first-message: the type that
// it asks for, else the one whose mere presence makes the flag "y" a sign that
// somebody took PLUS out of the list of mechanisms (RFC 5802 section 6).
func (x *scramExchange) binding(message string) (scram.ChannelBinding, error) {
	kind, bound := strings.CutPrefix(message, "p=")
	if bound != (x.name == mechScramPlus) {
		return scram.ChannelBinding{}, refuse(BadBinding, "the flag does not fit "+x.name)
	}
	if len(x.bindings) == 0 {
		return scram.ChannelBinding{}, nil
	}
	kind, _, _ = strings.Cut(kind, ",")
	for _, b := range x.bindings {
		if bound && kind == string(b.Type) {
			return b, nil
		}
	}
	return x.bindings[0], nil
}

// final takes the client-final-message and returns the server's proof.
func (x *scramExchange) final(ctx context.Context, message string) ([]byte, error) {
	c := claim{mechanism: x.name, user: x.conv.Username(), identity: x.conv.AuthzID()}
	var answer string
	l, err := x.auth.evaluate(ctx, c, func(now verifier) error {
		var err error
		answer, err = x.conv.Step(message)
		switch reason := scramReason(answer); {
		case err != nil && reason != WrongPassword:
			return refuse(reason, "SCRAM final message")
		case err != nil, !x.verifier.equal(now): // the password was changed meanwhile
			return errProof
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	x.login = l
	return []byte(answer), nil
}

// scramReason translates the server-error-value of RFC 5802 section 7.
func scramReason(answer string) Reason {
	switch answer {
	case scram.ErrInvalidProof:
		return WrongPassword
	case scram.ErrChannelBindingsDontMatch, scram.ErrServerDoesSupportChannelBinding,
		scram.ErrChannelBindingNotSupported, scram.ErrUnsupportedChannelBindingType:
		return BadBinding
	}
	return Malformed
}

// bindings returns the channel bindings that a connection has, the one to
// prefer first. Both types are unsafe without TLS 1.3 or the extended master
// secret of RFC 7627 (RFC 9266 section 4.2); crypto/tls exports no keying
// material then.
func bindings(state *tls.ConnectionState) []scram.ChannelBinding {
	if !state.HandshakeComplete {
		return nil
	}
	exporter, err := scram.NewTLSExporterBinding(state)
	if err != nil {
		return nil
	}
	all := []scram.ChannelBinding{exporter}
	if state.Version == tls.VersionTLS12 && len(state.TLSUnique) > 0 {
		all = append(all, scram.NewTLSUniqueBinding(state.TLSUnique)) // RFC 5802's default before TLS 1.3
	}
	return all
}
