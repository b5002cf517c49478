package admin

import (
	"bytes"
	"encoding/json"
)

// before notes what a thing was that is no more. Like the others below, it takes
// what people may see of the thing, which holds no secret.
func (e *Event) before(v any) { e.Before = plain(v) }

// after notes what a new thing is.
func (e *Event) after(v any) { e.After = plain(v) }

// change notes what of a thing has changed: the fields that differ.
func (e *Event) change(was, is any) {
	old, fresh := fieldsOf(was), fieldsOf(is)
	for name, v := range old {
		if bytes.Equal(v, fresh[name]) {
			delete(old, name)
			delete(fresh, name)
		}
	}
	if len(old)+len(fresh) > 0 {
		e.Before, e.After = plain(old), plain(fresh)
	}
}

// plain is a value as JSON.
func plain(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil // of types that have a form, there is none that has not
	}
	return b
}

func fieldsOf(v any) map[string]json.RawMessage {
	fields := make(map[string]json.RawMessage)
	_ = json.Unmarshal(plain(v), &fields)
	return fields
}
