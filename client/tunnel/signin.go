package tunnel

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"posthorn/client"
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

// How long the answer to a wrong password takes: more for each on a connection,
// and when there are many everywhere, up to a bound, at which the connection ends
// without an answer.
const (
	wrongDelay    = 500 * time.Millisecond
	maxWrongDelay = 3 * time.Second
)

// check returns nil when a program may sign in with a password, and errWrong after
// a while when it may not, or errGuessed when it may not try again either. A right
// one never waits.
func (c *conn) check(ctx context.Context, password string) error {
	want := c.config.Password
	if c.trusted || want == nil || want.Verify(password) {
		c.signedIn(c)
		return nil
	}
	c.failed++
	c.config.Log.Warn().Int("failed", c.failed).Msg("wrong local password")
	turn := c.guesses.Reserve()
	delay := max(turn.Delay(), time.Duration(c.failed)*wrongDelay)
	if delay > maxWrongDelay {
		turn.Cancel()
		sleep(ctx, maxWrongDelay)
		return errGuessed
	}
	sleep(ctx, delay)
	return errWrong
}

// deny answers a password that check did not take.
func (c *conn) deny(why error, answer string) error {
	if why != errWrong {
		return why
	}
	if err := c.say(answer); err != nil {
		return err
	}
	if c.failed >= maxGuesses {
		return errGuessed
	}
	return nil
}

// over tells why the gateway is out of reach, unless the tunnel itself ends.
func (c *conn) over(ctx context.Context, err error, lines ...string) error {
	if ctx.Err() != nil {
		return err
	}
	_ = c.say(lines...)
	return errOver
}

// say sends lines.
func (c *conn) say(lines ...string) error {
	_, err := c.Write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
	return err
}

// credentials carries an exchange of PLAIN (RFC 4616) or LOGIN to its end, and
// returns the password. initial is the initial response, nil if there was none; a
// challenge is sent behind a prefix.
func (c *conn) credentials(mechanism string, initial []byte, prefix string) (password string, err error) {
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
			if response, err = c.ask(prefix + base64.StdEncoding.EncodeToString([]byte(prompt))); err != nil {
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

// ask sends a challenge and reads the response.
func (c *conn) ask(challenge string) ([]byte, error) {
	if err := c.say(challenge); err != nil {
		return nil, err
	}
	line, err := c.in.Line(2 * maxLine)
	switch {
	case err != nil:
		return nil, err
	case string(line) == "*":
		return nil, imapline.SyntaxError("Exchange cancelled")
	}
	return imapline.DecodeSASL(line)
}

// keep returns a session, or closes it when the program could not be told of it.
func (c *conn) keep(s *client.Session, err error) (*client.Session, error) {
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
