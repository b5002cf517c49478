package sendmail

import (
	"errors"
	"fmt"
)

// Exit is an exit code of sysexits.h, by which programs that call sendmail know
// what became of their message.
type Exit int

// The codes that are used here.
const (
	OK          Exit = 0
	Usage       Exit = 64 // EX_USAGE: the command line makes no sense
	DataErr     Exit = 65 // EX_DATAERR: the message or an address is malformed
	NoUser      Exit = 67 // EX_NOUSER: there is no such recipient
	Unavailable Exit = 69 // EX_UNAVAILABLE: refused, for whatever other reason
	IOErr       Exit = 74 // EX_IOERR: reading or writing failed here
	TempFail    Exit = 75 // EX_TEMPFAIL: nobody has had the message; try again later
	NoPerm      Exit = 77 // EX_NOPERM: the gateway does not let this user do that
	Config      Exit = 78 // EX_CONFIG: the configuration is missing or wrong
)

// Error is an error with the exit code that it deserves.
type Error struct {
	Code Exit
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e *Error) Unwrap() error { return e.Err }

// Code returns the exit code of an error; Unavailable when it has none of its own.
func Code(err error) Exit {
	var e *Error
	switch {
	case err == nil:
		return OK
	case errors.As(err, &e):
		return e.Code
	}
	return Unavailable
}

func failure(code Exit, format string, args ...any) error {
	return &Error{code, fmt.Errorf(format, args...)}
}
