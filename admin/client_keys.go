package admin

import (
	"context"
	"encoding/pem"
	"net/url"
	"strings"

	"posthorn/authkeys"
	"posthorn/passkeys"
)

// AddKey registers a key. Of req.PublicKey only the public part leaves this
// process, also when a private key stands beside it.
func (c *Client) AddKey(ctx context.Context, req NewKey) (*Key, error) {
	if _, err := authkeys.ParsePublicKey([]byte(req.PublicKey)); err != nil {
		return nil, badKey(err)
	}
	var err error
	if req.PublicKey, err = publicPart(req.PublicKey); err != nil {
		return nil, err
	}
	out := new(Key)
	return out, c.call(ctx, "POST", "keys", req, out)
}

// publicPart returns the first certificate or public key among a text's PEM
// blocks, or, when it holds no PEM at all, the text.
func publicPart(text string) (string, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return text, nil
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "CERTIFICATE") || strings.HasSuffix(block.Type, "PUBLIC KEY") {
			return string(pem.EncodeToMemory(block)), nil
		}
	}
	return "", &InvalidError{"public_key", "holds neither a certificate nor a public key"}
}

// ListKeys returns the keys of an account; account "" means all.
func (c *Client) ListKeys(ctx context.Context, account string) ([]Key, error) {
	return list[Key](ctx, c, "keys", of(account))
}

// ShowKey describes a key.
func (c *Client) ShowKey(ctx context.Context, f authkeys.Fingerprint) (*Key, error) {
	out := new(Key)
	return out, c.call(ctx, "GET", "keys/"+f.String(), nil, out)
}

// SetKey changes a key's settings.
func (c *Client) SetKey(ctx context.Context, f authkeys.Fingerprint, change KeyChange) (*Key, error) {
	out := new(Key)
	return out, c.call(ctx, "PATCH", "keys/"+f.String(), change, out)
}

// RemoveKey deletes a key.
func (c *Client) RemoveKey(ctx context.Context, f authkeys.Fingerprint) error {
	return c.call(ctx, "DELETE", "keys/"+f.String(), nil, nil)
}

// ListPasskeys returns the passkeys of an account.
func (c *Client) ListPasskeys(ctx context.Context, account string) ([]passkeys.Passkey, error) {
	var out Passkeys
	err := c.callAccount(ctx, "GET", account, "/passkeys", nil, &out)
	return out.Items, err
}

// RemovePasskey deletes a passkey of an account, and returns how many web sessions
// that it had opened ended.
func (c *Client) RemovePasskey(ctx context.Context, account, id string) (int, error) {
	if strings.Trim(id, ".") == "" { // a path segment must not be empty or dots
		return 0, &InvalidError{"id", "must not be empty"}
	}
	var out closed
	err := c.callAccount(ctx, "DELETE", account, "/passkeys/"+url.PathEscape(id), nil, &out)
	return out.Closed, err
}
