package tunnel

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"posthorn/imapline"
)

// Limits of what a program may say before it has signed in, which are the
// gateway's.
const (
	maxLine     = 8 << 10 // bytes; twice that for SASL
	maxLiteral  = 4 << 10
	maxCommands = 200
	maxBad      = 10
	maxGuesses  = 3 // passwords on a connection
)

const (
	errTooMany = imapline.FatalError("Too many commands without a login")
	errTooBad  = imapline.FatalError("Too many bad commands")
	errGuessed = imapline.FatalError("Too many failed logins")
)

// errWrong says that the local password is another one; whatever is wrong with it,
// programs hear the same.
var errWrong = errors.New("wrong local password")

// errMechanism says that a SASL mechanism is not offered.
var errMechanism = errors.New("no such mechanism")

// check returns nil when a program may sign in with a password. After a wrong one
// it takes its time, and more so the more of them there are, from wherever. A
// right one never waits.
func (c *conn) check(ctx context.Context, password string) error {
	want := c.config.Password
	if c.trusted || want == nil || want.Verify(password) {
		c.signedIn(c)
		return nil
	}
	c.failed++
	c.config.Log.Warn().Int("failed", c.failed).Msg("wrong local password")
	sleep(ctx, time.Duration(c.failed)*500*time.Millisecond)
	if c.guesses.Wait(ctx) != nil {
		<-ctx.Done() // it would be over by then
	}
	return errWrong
}

// credentials carries an exchange of PLAIN (RFC 4616) or LOGIN to its end, and
// returns the password. initial is the initial response, nil if there was none; ask
// sends a challenge and returns the response.
func credentials(mechanism string, initial []byte, ask func(challenge string) ([]byte, error)) (password string, err error) {
	var prompts []string
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		prompts = []string{""}
	case "LOGIN":
		prompts = []string{"Username:", "Password:"}
	default:
		return "", errMechanism
	}
	var response []byte
	for i, prompt := range prompts {
		if response = initial; response == nil || i > 0 {
			if response, err = ask(base64.StdEncoding.EncodeToString([]byte(prompt))); err != nil {
				return "", err
			}
		}
	}
	if len(prompts) == 2 {
		return string(response), nil
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 || len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) {
		return "", imapline.SyntaxError("Malformed response")
	}
	return string(parts[2]), nil
}
