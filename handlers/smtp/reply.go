package smtp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"posthorn/mux"
)

// Replies that go out as they stand. They repeat nothing that a client sent.
const (
	replyBusy         = "421 4.3.2 Too busy, try again later\r\n"
	replyForeign      = "554 5.5.1 This is a submission server\r\n"
	replyBadEnd       = "500 5.5.2 Lines must end in CRLF\r\n"
	replyControl      = "500 5.5.2 Control characters are not allowed\r\n"
	replyLongLine     = "500 5.5.2 Line too long\r\n"
	replyUnknown      = "500 5.5.1 Command not recognized\r\n"
	replyUnbuilt      = "502 5.5.1 Command not implemented\r\n"
	replySequence     = "503 5.5.1 Bad sequence of commands\r\n"
	replyInTLS        = "503 5.5.1 TLS is active already\r\n"
	replyBadHelo      = "501 5.5.4 Bad domain name or address literal\r\n"
	replyArgument     = "501 5.5.4 Command takes no argument\r\n"
	replyBadPath      = "501 5.5.4 Want <address> and parameters\r\n"
	replyQuoted       = "553 5.1.3 Quoted local parts are not accepted\r\n"
	replyBadUTF8      = "553 5.6.7 Address is not valid UTF-8\r\n"
	replyTwice        = "501 5.5.4 Parameter given twice\r\n"
	replyBody         = "504 5.5.4 Bodies are 7BIT or 8BITMIME\r\n"
	replyBadParameter = "501 5.5.4 Bad value of a parameter\r\n"
	replyParameter    = "555 5.5.4 Parameter not recognized\r\n"
	replyTooBig       = "552 5.3.4 Message too big\r\n"
	replyBadChunk     = "501 5.5.4 Bad chunk size\r\n"
	replyChunk        = "250 2.0.0 Continue\r\n"
	replyNoop         = "250 2.0.0 OK\r\n"
	replyVerify       = "252 2.5.0 Send some mail, I'll try my best\r\n"
	replyHelp         = "214 2.0.0 See RFC 6409\r\n"
	replyAuth         = "235 2.7.0 Authentication succeeded\r\n"
	replyBadAuth      = "501 5.5.4 Want a mechanism, and an initial response or none\r\n"
	replyLongAuth     = "500 5.5.6 Authentication exchange line is too long\r\n"
	replyBadBase64    = "501 5.5.2 Invalid base64\r\n"
	replyErrors       = "421 4.7.0 Too many errors\r\n"
	replyMustStartTLS = "530 5.7.0 Must issue a STARTTLS command first\r\n"
	replyStartTLS     = "220 2.0.0 Ready to start TLS\r\n"
	replyNoArgument   = "501 5.5.4 STARTTLS takes no argument\r\n"
	replyPanic        = "421 4.3.0 Internal error\r\n"
)

// Errors that go-smtp words into replies.
var (
	errNotLoggedIn  = smtpError(530, 5, 7, 0, "Authentication required")
	errCredentials  = smtpError(535, 5, 7, 8, "Authentication credentials invalid")
	errMechanism    = smtpError(504, 5, 5, 4, "Authentication mechanism not offered")
	errTooMany      = smtpError(421, 4, 7, 0, "Too many failed logins")
	errAuthLater    = smtpError(454, 4, 7, 0, "Temporary authentication failure")
	errConns        = smtpError(421, 4, 7, 0, "Too many connections")
	errRevoked      = smtpError(421, 4, 7, 0, "Access revoked")
	errLater        = smtpError(451, 4, 3, 0, "Try again later")
	errSenderSyntax = smtpError(553, 5, 1, 7, "Bad sender address syntax")
	errRcptOriginal = smtpError(501, 5, 5, 4, "Bad original recipient")
	errRcptSyntax   = smtpError(553, 5, 1, 3, "Bad recipient address syntax")
	errNeedUTF8     = smtpError(553, 5, 6, 7, "Address needs SMTPUTF8")
	errForeignFrom  = smtpError(550, 5, 7, 1, "MAIL FROM must be an address of your account")

	errBareLine     = smtpError(550, 5, 6, 0, "Message has a bare CR, a bare LF or a NUL")
	errTooBig       = smtpError(552, 5, 3, 4, "Message too big")
	errHeaderTooBig = smtpError(552, 5, 3, 4, "Message header too big")
	errHeaderFrom   = smtpError(550, 5, 7, 1, "From and Sender must be addresses of your account")
	errManyFrom     = smtpError(550, 5, 6, 0, "Message has more than one From or Sender field")
	errBadFrom      = smtpError(550, 5, 6, 0, "From or Sender field cannot be parsed")
)

func smtpError(code, class, subject, detail int, text string) *gosmtp.SMTPError {
	return &gosmtp.SMTPError{Code: code, EnhancedCode: gosmtp.EnhancedCode{class, subject, detail}, Message: text}
}

// shown returns err as go-smtp wants it, unwrapped: anything that is no reply
// of its own, which a backend should not return, becomes a plain 451.
func shown(err error) error {
	if err == nil {
		return nil
	}
	var reply *gosmtp.SMTPError
	if !errors.As(err, &reply) || reply.Code < 400 || reply.Code > 599 {
		return errLater
	}
	if c := reply.EnhancedCode; strings.Contains(reply.Message, "\n") && c[0] > 0 {
		// go-smtp has the code before the last line only; RFC 2034 section 4
		// wants it before each.
		code := fmt.Sprintf("%d.%d.%d ", c[0], c[1], c[2])
		return &gosmtp.SMTPError{
			Code: reply.Code, EnhancedCode: gosmtp.NoEnhancedCode,
			Message: code + strings.ReplaceAll(reply.Message, "\n", "\n"+code),
		}
	}
	return reply
}

// goodbyeReply is the 421 for the end of a connection's context.
func goodbyeReply(cause error) string {
	switch {
	case errors.Is(cause, mux.ErrDraining):
		return "421 4.3.2 Shutting down\r\n"
	case errors.Is(cause, mux.ErrRevoked):
		return "421 4.7.0 Access revoked\r\n"
	case errors.Is(cause, mux.ErrCrowded):
		return replyBusy
	case errors.Is(cause, mux.ErrEvicted):
		return "421 4.3.2 Closed by the administrator\r\n"
	case errors.Is(cause, mux.ErrTimeout), errors.Is(cause, context.DeadlineExceeded):
		return "421 4.4.2 Timeout\r\n"
	}
	return "421 4.3.0 Service is ending\r\n"
}
