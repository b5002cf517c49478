package sendmail

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"

	"posthorn/client"
)

// Outcome is what became of a message, for each of its recipients.
type Outcome struct {
	Sent     []string
	Refused  []Failure // for good
	Deferred []Failure // they may have it another time
	// Unreachable says that nothing could be sent to anybody: there is no route to
	// the gateway, or nobody is logged in.
	Unreachable bool
	// NoReports says that the gateway does not offer the reports that were asked
	// for; the message went without.
	NoReports bool
}

// Failure is why a recipient has not got a message.
type Failure struct {
	Recipient string `json:"recipient"`
	Reason    string `json:"reason"`
	Code      Exit   `json:"code"`
}

func (f *Failure) String() string { return f.Recipient + ": " + f.Reason }

// Exit is the exit code for those who want the message sent now. TempFail means
// that nobody has had it, so that the whole can be tried again.
func (o *Outcome) Exit() Exit {
	switch {
	case len(o.Refused) == 0 && len(o.Deferred) == 0:
		return OK
	case len(o.Sent) > 0 && len(o.Refused) == 0:
		return Unavailable
	case len(o.Sent) == 0 && len(o.Deferred) > 0:
		return common(o.Deferred, TempFail)
	}
	return common(o.Refused, Unavailable)
}

// common returns the code that all failures have; or another one.
func common(all []Failure, other Exit) Exit {
	for _, f := range all {
		if f.Code != all[0].Code {
			return other
		}
	}
	return all[0].Code
}

// fail records an error for some recipients.
func (o *Outcome) fail(recipients []string, err error) {
	code, permanent := judge(err)
	for _, r := range recipients {
		f := Failure{r, reason(err), code}
		if permanent {
			o.Refused = append(o.Refused, f)
		} else {
			o.Deferred = append(o.Deferred, f)
		}
	}
}

// refusal is a reason, found here, for which a message can never be sent.
type refusal struct {
	code Exit
	error
}

// judge says which exit code an error deserves, and whether the same message can
// never succeed.
func judge(err error) (code Exit, permanent bool) {
	answer, refused, local := new(smtp.SMTPError), new(refusal), new(Error)
	switch {
	case errors.As(err, &refused):
		return refused.code, true
	case errors.As(err, &local): // a login that fails, a file that cannot be read
		return local.Code, false
	case !errors.As(err, &answer) || answer.Code < 500:
		return TempFail, false
	case answer.Code == 530 || answer.Code == 535: // the login's, whatever it was said to
		return NoPerm, false
	}
	return replyCode(answer), true
}

// replyCode is the exit code for a permanent refusal (RFC 3463 section 3).
func replyCode(answer *smtp.SMTPError) Exit {
	switch class := answer.EnhancedCode; {
	case class[1] == 1 && class[2] <= 6 && class[0] == 5:
		return NoUser
	case class[1] == 1, class[1] == 6:
		return DataErr
	case class[1] == 7:
		return NoPerm
	case class[0] == 0 && (answer.Code == 550 || answer.Code == 553):
		return NoUser
	}
	return Unavailable
}

// reachable gives an error of client.Dialer the code that it deserves.
func reachable(err error) error {
	login := new(client.LoginError)
	if errors.As(err, &login) {
		if answer := new(smtp.SMTPError); !errors.As(err, &answer) || answer.Code >= 500 {
			return &Error{NoPerm, err}
		}
	}
	return &Error{TempFail, err}
}

// reason is an error in one line that is fit for terminals and files.
func reason(err error) string {
	const longest = 800 // octets; see roomForEach
	text := err.Error()
	if answer := new(smtp.SMTPError); errors.As(err, &answer) {
		text = fmt.Sprintf("%d %s", answer.Code, answer.Message)
		if c := answer.EnhancedCode; c[0] > 0 {
			text = fmt.Sprintf("%d %d.%d.%d %s", answer.Code, c[0], c[1], c[2], answer.Message)
		}
		if login := new(client.LoginError); errors.As(err, &login) {
			text = "login with " + login.Mechanism + ": " + text
		}
	}
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if isControl(r) || r >= 0x200e && r <= 0x202e {
			return ' '
		}
		return r
	}, text)), " ")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return cmp.Or(text, "no reason was given")
}
