package accounts

import "context"

// external is EXTERNAL (RFC 4422 appendix A): TLS has proved the key, the
// response names an authorization identity or is empty.
type external struct {
	auth  *Auth
	asked bool
}

func (x *external) step(ctx context.Context, response []byte) ([]byte, *Login, error) {
	if response == nil && !x.asked {
		x.asked = true
		return nil, nil, nil
	}
	// The key is looked up again: it may have been removed since Start.
	l, err := x.auth.store.byKey(ctx, x.auth.peer)
	if err != nil {
		return nil, nil, err
	}
	if !isText(response) {
		return nil, nil, refuse(Malformed, "authorization identity")
	}
	if identity := string(response); identity != "" {
		if !l.Account.Has(identity) {
			err := refuse(BadIdentity, l.Key.String())
			x.auth.store.recordRefusal(err, l.Peer, mechExternal, l.Key, l.Account.ID)
			return nil, nil, err
		}
		l.Address = foldUser(identity)
	}
	l.Mechanism = mechExternal
	x.auth.store.noteKey(l)
	return nil, l, nil
}
