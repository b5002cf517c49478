package devices

import (
	"bytes"
	"errors"

	"posthorn/admin"
	"posthorn/authkeys"
	"posthorn/handlers/https/pages"
)

// What is wrong with a form: with a text that is no public key, where more can be
// said of it than authkeys does, and with the key's limits.
var (
	errEmpty    = errors.New("nothing was given")
	errRequest  = errors.New("a certificate request")
	errCut      = errors.New("begins like PEM and does not end like it")
	errEncoding = errors.New("UTF-16")
	errDate     = errors.New("not a date")
	errUses     = errors.New("no use, or an unknown one")
)

// inspect looks at what somebody gave for a public key, before anything is made
// of it. A private key is refused wherever it stands: authkeys reads the
// certificate beside it, but a key that has come this far is not private.
func inspect(text []byte) error {
	trimmed := bytes.TrimSpace(text)
	switch {
	case len(trimmed) == 0:
		return errEmpty
	case holdsPrivateKey(trimmed):
		return authkeys.ErrPrivateKey
	}
	_, err := authkeys.ParsePublicKey(text)
	if !errors.Is(err, authkeys.ErrNoPublicKey) {
		return err
	}
	switch {
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		return errEncoding
	case bytes.Contains(text, []byte("CERTIFICATE REQUEST-----")):
		return errRequest
	case bytes.Contains(text, []byte("-----BEGIN ")) && !bytes.Contains(text, []byte("-----END ")):
		return errCut
	}
	return err
}

// holdsPrivateKey finds private keys in the forms that people have files of:
// PEM of any kind, also cut off or in UTF-16, and PuTTY's.
func holdsPrivateKey(text []byte) bool {
	plain := bytes.ReplaceAll(text, []byte{0}, nil)
	return bytes.Contains(plain, []byte("PRIVATE KEY-----")) ||
		bytes.HasPrefix(plain, []byte("PuTTY-User-Key-File-")) ||
		bytes.Contains(plain, []byte("AGE-SECRET-KEY-")) ||
		bytes.Contains(plain, []byte(`"kty"`)) && bytes.Contains(plain, []byte(`"d"`))
}

// shown is what of a text is put back into a form. A private key is not sent
// about once more.
func shown(text []byte) []byte {
	if holdsPrivateKey(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil
	}
	return text
}

// fault is what somebody can mend.
type fault struct {
	field string // of the form
	text  pages.Text
}

// faultOf explains an error; nil when there is none, or it is not the visitor's
// to mend.
func faultOf(err error) *fault {
	if u := (*authkeys.UnacceptableError)(nil); errors.As(err, &u) {
		return &fault{"key", pages.T("devices.fault.type", "type", u.Type)}
	}
	for _, e := range explanations() {
		if errors.Is(err, e.err) {
			return &fault{e.field, e.text}
		}
	}
	if i := (*admin.InvalidError)(nil); errors.As(err, &i) {
		switch i.Field {
		case "name":
			return &fault{"name", pages.T("devices.fault.name")}
		case "expires":
			return &fault{"expires", pages.T("devices.fault.expires")}
		case "public_key":
			return &fault{"key", pages.T("devices.fault.none")}
		}
	}
	return nil
}

// explanation is what to say of an error.
type explanation struct {
	err   error
	field string
	text  pages.Text
}

func explanations() []explanation {
	return []explanation{
		{errEmpty, "key", pages.T("devices.fault.empty")},
		{authkeys.ErrPrivateKey, "key", pages.T("devices.fault.private")},
		{authkeys.ErrPKCS12, "key", pages.T("devices.fault.pkcs12")},
		{errRequest, "key", pages.T("devices.fault.request")},
		{errCut, "key", pages.T("devices.fault.cut")},
		{errEncoding, "key", pages.T("devices.fault.encoding")},
		{authkeys.ErrNoPublicKey, "key", pages.T("devices.fault.none")},
		{authkeys.ErrTaken, "key", pages.T("devices.fault.taken")},
		{authkeys.ErrTooMany, "key", pages.T("devices.fault.many")},
		{errDate, "expires", pages.T("devices.fault.date")},
		{errUses, "scope", pages.T("devices.fault.uses")},
	}
}
