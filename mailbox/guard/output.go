package guard

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
)

// output is the way to the client. It follows where imapserver's responses end,
// gathers them until the client's turn, and lets the guard speak in between.
// imapserver begins every response with a Write of its own, in which its first
// words are whole.
type output struct {
	client net.Conn
	ctx    context.Context // whose end is told behind the response under way

	mu    sync.Mutex
	queue buffer
	err   error // of the connection below, in either direction

	greeted bool
	mid     bool  // inside a response
	skip    bool  // which is not sent
	plain   bool  // and cannot hold literals
	tagged  bool  // and ends a command
	octets  int64 // of a literal in it, still to come
	tail    tail  // of its present line

	plus     bool   // the last response was a continuation request
	hidePlus bool   // the client does not wait for one
	prompt   bool   // send every response at once: nobody else will
	hide     bool   // the next tagged response is not for the client
	instead  string // but this line
	bad      int    // bad commands so far

	farewell string // the text of a BYE to be sent after the response under way
	over     bool   // BYE was said by the guard: nothing may follow
	saidBye  bool   // imapserver said BYE
}

// serverBug is what imapserver says of an error that is not an *imap.Error, such
// as those of its parser for numbers, dates and mailbox names. Sessions have no
// others: it is the client's bug.
var serverBug = []byte("NO [SERVERBUG] Internal server error\r\n")

// write takes imapserver's bytes. It fails at the end of a response only: a
// session that gives up inside one leaves imapserver's encoder locked.
func (o *output) write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for rest := p; len(rest) > 0; {
		if !o.mid {
			o.begin(rest)
		}
		n := o.advance(rest)
		if !o.skip {
			o.send(rest[:n])
		}
		rest = rest[n:]
		if !o.mid {
			o.completed()
		}
	}
	switch {
	case o.mid:
		return len(p), nil
	case o.over:
		return 0, net.ErrClosed
	case o.prompt:
		o.push()
	}
	return len(p), o.err
}

// begin looks at the first bytes of a response.
func (o *output) begin(p []byte) {
	o.mid, o.skip, o.plain, o.tagged = true, false, true, false
	first, rest, _ := bytes.Cut(p, []byte(" "))
	second, _, _ := bytes.Cut(rest, []byte(" "))
	switch {
	case !o.greeted:
		o.greeted = true
		o.skip = string(second) == "PREAUTH"
		return
	case string(first) == "+":
		o.plus = true
		o.skip = o.hidePlus
		return
	case string(first) != "*":
		o.tagged, o.skip = true, o.hide
		if string(second) == "BAD" {
			o.bad++
		} else if bytes.HasPrefix(rest, serverBug) && !o.hide {
			o.skip, o.instead = true, string(first)+" BAD [CLIENTBUG] Malformed argument"
		}
		return
	}
	switch string(second) {
	case "BYE":
		o.saidBye = true
	case "OK", "NO", "BAD":
	default:
		o.plain = false
	}
}

// advance returns how much of p belongs to the response under way, and notes
// when that ends.
func (o *output) advance(p []byte) int {
	for n := 0; ; {
		k := int(min(o.octets, int64(len(p)-n)))
		o.octets -= int64(k)
		n += k
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			o.tail.add(p[n:])
			return len(p)
		}
		o.tail.add(p[n : n+i+1])
		n += i + 1
		size, ok := o.tail.literal()
		o.tail = tail{}
		if !ok || o.plain {
			o.mid = false
			return n
		}
		o.octets = size
	}
}

// completed does what waited for the end of a response.
func (o *output) completed() {
	if o.tagged {
		if o.instead != "" {
			o.send([]byte(o.instead + "\r\n"))
			o.bad++
		}
		o.hide, o.instead = false, ""
	}
	if o.ctx.Err() != nil {
		o.sayBye(context.Cause(o.ctx).Error())
	} else if o.farewell != "" {
		o.sayBye(o.farewell)
	}
}

func (o *output) sayBye(text string) {
	if !o.saidBye {
		o.send([]byte("* BYE " + printable(text) + "\r\n"))
		o.push()
	}
	o.over = true
}

func (o *output) send(p []byte) {
	for len(p) > 0 && o.err == nil && !o.over {
		k := min(len(p), arraySize-o.queue.len())
		o.queue.append(p[:k])
		p = p[k:]
		if o.queue.len() == arraySize {
			o.push()
		}
	}
}

func (o *output) push() {
	if o.err == nil && o.queue.len() > 0 {
		_, o.err = o.client.Write(o.queue.bytes())
	}
	o.queue.release()
}

// The methods below are for the reading side.

// flush sends what was gathered.
func (o *output) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.push()
	return o.err
}

// fail notes an error of the reading side.
func (o *output) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
}

func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// reply says a line of the guard's own. imapserver must be between commands, or
// waiting for the message of an APPEND.
func (o *output) reply(parts ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.send([]byte(strings.Join(parts, "") + "\r\n"))
}

// bye says BYE now, or as soon as the response under way is over. Nothing
// follows it.
func (o *output) bye(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mid {
		o.farewell = text
		return
	}
	o.sayBye(text)
}

// expectPlus forgets the continuation requests so far, and whether the next one
// is for the client.
func (o *output) expectPlus(hide bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.plus, o.hidePlus = false, hide
}

func (o *output) sawPlus() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.plus
}

// setPrompt says whether responses are sent at once, as in IDLE.
func (o *output) setPrompt(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.prompt = on
	o.push()
}

// hideTagged puts line, which is a BAD one or empty, in place of the next tagged
// response.
func (o *output) hideTagged(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hide, o.instead = true, line
}

func (o *output) countBad() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bad++
}

func (o *output) badCommands() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bad
}

// printable makes a text fit for a response line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
