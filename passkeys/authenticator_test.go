package passkeys_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
)

// authenticator is a device with one passkey, as WebAuthn section 6 describes it.
type authenticator struct {
	t       testing.TB
	key     *ecdsa.PrivateKey
	id      []byte
	handle  []byte
	counter uint32
	// What a dishonest one, or a dishonest page, does.
	origin   string // in place of the visit's
	rpID     string
	noUser   bool // nobody touched it
	tampered bool // the signature is of something else
}

func newAuthenticator(t testing.TB) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authenticator{t: t, key: key, id: make([]byte, 32)}
	rand.Read(a.id)
	return a
}

var b64 = base64.RawURLEncoding.EncodeToString

func (a *authenticator) clientData(kind string, challenge []byte, origin string) []byte {
	if a.origin != "" {
		origin = a.origin
	}
	b, err := json.Marshal(map[string]any{"type": kind, "challenge": b64(challenge), "origin": origin, "crossOrigin": false})
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

// data is the authenticator data (section 6.1).
func (a *authenticator) data(rpID string, attested []byte) []byte {
	if a.rpID != "" {
		rpID = a.rpID
	}
	flags := byte(0x05) // user present, user verified
	if a.noUser {
		flags = 0
	}
	if attested != nil {
		flags |= 0x40
	}
	hash := sha256.Sum256([]byte(rpID))
	a.counter++
	return append(binary.BigEndian.AppendUint32(append(hash[:], flags), a.counter), attested...)
}

func (a *authenticator) marshal(v any) []byte {
	b, err := webauthncbor.Marshal(v)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

// create answers navigator.credentials.create.
func (a *authenticator) create(o *protocol.CredentialCreation, origin string) []byte {
	a.t.Helper()
	handle, ok := o.Response.User.ID.(protocol.URLEncodedBase64)
	if !ok {
		a.t.Fatalf("user ID is %T", o.Response.User.ID)
	}
	a.handle = handle
	pub, err := a.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		a.t.Fatal(err)
	}
	cose := a.marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: pub[1:33], -3: pub[33:]})
	attested := append(make([]byte, 16), binary.BigEndian.AppendUint16(nil, uint16(len(a.id)))...)
	attested = append(append(attested, a.id...), cose...)
	attestation := a.marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": a.data(o.Response.RelyingParty.ID, attested)})
	return a.response(map[string]any{
		"clientDataJSON": b64(a.clientData("webauthn.create", o.Response.Challenge, origin)), "attestationObject": b64(attestation),
	})
}

// get answers navigator.credentials.get.
func (a *authenticator) get(o *protocol.CredentialAssertion, origin string) []byte {
	a.t.Helper()
	client := a.clientData("webauthn.get", o.Response.Challenge, origin)
	data := a.data(o.Response.RelyingPartyID, nil)
	hash := sha256.Sum256(client)
	signed := sha256.Sum256(append(data[:len(data):len(data)], hash[:]...))
	if a.tampered {
		signed[0]++
	}
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, signed[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.response(map[string]any{
		"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(signature), "userHandle": b64(a.handle),
	})
}

func (a *authenticator) response(r map[string]any) []byte {
	b, err := json.Marshal(map[string]any{"id": b64(a.id), "rawId": b64(a.id), "type": "public-key", "response": r})
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}
