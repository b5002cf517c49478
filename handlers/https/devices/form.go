package devices

import (
	"posthorn/authkeys"
)

// fields is the part of a form that says how a key is to be.
type fields struct {
	settings
	Clients []client
	fault   *fault // nil: none
}

func fieldsOf(s settings, f *fault) fields { return fields{s, clients(), f} }

// In reports whether a box for a protocol is ticked.
func (f fields) In(scope string) bool {
	s, err := authkeys.ParseScope(scope)
	return err == nil && f.Scope.Allows(s)
}

// Wrong returns the pages.Text about a field; nil when nothing is wrong with it.
func (f fields) Wrong(field string) any {
	if f.fault == nil || f.fault.field != field {
		return nil
	}
	return f.fault.text
}
