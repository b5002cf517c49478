package admin

import (
	"context"
	"net/http"
	"time"

	"posthorn/authkeys"
)

// KeyPath is the part of a path that names a key.
type KeyPath struct {
	Fingerprint string `path:"fingerprint" maxLength:"100" doc:"SHA-256 of the public key, as SHA256:…"`
}

func (p KeyPath) parse() (authkeys.Fingerprint, error) {
	f, err := authkeys.ParseFingerprint(p.Fingerprint)
	if err != nil {
		return f, &InvalidError{"fingerprint", "must be SHA256: and 43 characters of base64url"}
	}
	return f, nil
}

// addKeys adds the operations about keys.
func (a *api) addKeys() {
	const tag = "keys"
	missing := []int{http.StatusNotFound}
	add(a, operation{id: "listKeys", tag: tag, action: "key list", method: "GET", path: "/keys", summary: "The registered keys", fails: missing}, a.listKeysOf)
	add(a, operation{
		id: "addKey", tag: tag, action: "key add", method: "POST", path: "/keys", summary: "Register a public key for an account", status: http.StatusCreated,
		fails: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, func(ctx context.Context, who Actor, in *struct {
		Fresh
		Body NewKey
	}) (*tagged[*Key], error) {
		k, err := a.AddKey(ctx, who, in.Body)
		return keyAnswer(k, in.check(err))
	})
	add(a, operation{id: "getKey", tag: tag, action: "key show", method: "GET", path: "/keys/{fingerprint}", summary: "A key", fails: missing},
		func(ctx context.Context, who Actor, in *KeyPath) (*tagged[*Key], error) {
			f, err := in.parse()
			if err != nil {
				return nil, err
			}
			return keyAnswer(a.ShowKey(ctx, who, f))
		})
	add(a, operation{
		id: "changeKey", tag: tag, action: "key set", method: "PATCH", path: "/keys/{fingerprint}", summary: "Change a key's settings",
		about: "What is left out stays. Sessions that it opened end where they are no longer allowed.", fails: []int{http.StatusNotFound, http.StatusPreconditionFailed},
	}, func(ctx context.Context, who Actor, in *struct {
		KeyPath
		Seen
		Body KeyChange
	}) (*tagged[*Key], error) {
		f, err := in.parse()
		if err != nil {
			return nil, err
		}
		return keyAnswer(a.SetKey(ctx, who, f, in.Body, in.condition()))
	})
	add(a, operation{id: "removeKey", tag: tag, action: "key remove", method: "DELETE", path: "/keys/{fingerprint}",
		summary: "Delete a key, and end the sessions that it opened", fails: []int{http.StatusNotFound, http.StatusPreconditionFailed}},
		func(ctx context.Context, who Actor, in *struct {
			KeyPath
			Seen
		}) (*nothing, error) {
			f, err := in.parse()
			if err != nil {
				return nil, err
			}
			return done(a.RemoveKey(ctx, who, f, in.condition()))
		})
}

func (a *api) listKeysOf(ctx context.Context, who Actor, in *struct {
	Cut
	Account string `query:"account" maxLength:"320" doc:"Only those of an account, by ID or address."`
}) (*body[*Page[Key]], error) {
	all, err := a.ListKeys(ctx, who, in.Account)
	if err != nil {
		return nil, err
	}
	name := func(k Key) string {
		return k.Address + "\x00" + k.Created.UTC().Format(time.RFC3339) + k.Fingerprint.String()
	}
	return answer(ordered[Key]{items: all, name: name}.page(in.Cut))
}

func keyAnswer(k *Key, err error) (*tagged[*Key], error) {
	if err != nil {
		return nil, err
	}
	return &tagged[*Key]{KeyTag(*k), k}, nil
}
