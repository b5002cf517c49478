package backendtest

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// Script is what a scripted server does on one connection: Greet, then for
// every line that comes the first of Rules that fits it. A line that none fits
// ends the connection.
type Script struct {
	// TLS is spoken from the first byte; nil: no TLS.
	TLS   *tls.Config
	Greet []Act
	Rules []Rule
}

// Rule is the answer to lines, which end in CRLF.
type Rule struct {
	Line string // a regular expression, without regard to case, for the whole of it
	Do   []Act
}

// Act is one thing that a scripted server does. After an error it does nothing
// more on that connection but close it.
type Act func(c *ScriptConn) error

// ScriptConn is a connection to a scripted server.
type ScriptConn struct {
	net.Conn
	R *bufio.Reader

	line  string // the last one that came
	match []int  // where its Rule's groups are
	rule  *regexp.Regexp
	done  <-chan struct{} // closed when the server ends
}

// Say sends text, in which CRLF must be written out. $1 stands for what the
// first group of the rule's Line has matched: of IMAP commands often the tag.
func Say(text string) Act {
	return func(c *ScriptConn) error {
		_, err := c.Write(c.expand(text))
		return err
	}
}

// Repeat sends text until n bytes have gone, or for ever when n is negative.
func Repeat(text string, n int) Act {
	return func(c *ScriptConn) error {
		block := strings.Repeat(text, 1+(32<<10)/len(text))
		for left := n; left != 0; {
			if left > 0 {
				block = block[:min(len(block), left)]
				left -= len(block)
			}
			if _, err := io.WriteString(c, block); err != nil {
				return err
			}
		}
		return nil
	}
}

// Hang says nothing for a while, and reads nothing; for ever when d is 0.
func Hang(d time.Duration) Act {
	return func(c *ScriptConn) error {
		var over <-chan time.Time
		if d > 0 {
			over = time.After(d)
		}
		select {
		case <-over:
			return nil
		case <-c.done:
			return net.ErrClosed
		}
	}
}

// expand puts in for $1 and so on what the rule's groups have matched.
func (c *ScriptConn) expand(text string) []byte {
	if c.rule == nil {
		return []byte(text)
	}
	return c.rule.ExpandString(nil, text, c.line, c.match)
}

// Drip sends text, as Say does, a byte at a time, with pauses.
func Drip(text string, pause time.Duration) Act {
	return func(c *ScriptConn) error {
		for _, b := range c.expand(text) {
			if _, err := c.Write([]byte{b}); err != nil {
				return err
			}
			if err := Hang(pause)(c); err != nil {
				return err
			}
		}
		return nil
	}
}

// Close ends the connection in good order.
func Close() Act { return func(*ScriptConn) error { return io.EOF } }

// Reset ends the connection with a TCP reset.
func Reset() Act {
	return func(c *ScriptConn) error {
		if tcp, ok := c.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return io.EOF
	}
}

// StartTLS makes the handshake as server.
func StartTLS(config *tls.Config) Act {
	return func(c *ScriptConn) error {
		secured := tls.Server(c.Conn, config)
		c.Conn, c.R = secured, bufio.NewReader(secured)
		return secured.Handshake()
	}
}

// NetConn returns the connection below TLS, if there is any.
func (c *ScriptConn) NetConn() net.Conn {
	if secured, ok := c.Conn.(*tls.Conn); ok {
		return secured.NetConn()
	}
	return c.Conn
}

// ScriptServer is a running server that follows a script.
type ScriptServer struct {
	Address string // host:port

	listener net.Listener
	done     chan struct{}
	serving  sync.WaitGroup

	mu      sync.Mutex
	scripts []Script            // guarded by mu
	open    map[net.Conn]string // guarded by mu
	lines   []string            // guarded by mu
	count   int                 // guarded by mu
}

// StartScript runs a server for as long as the test. The first connection gets
// the first script and so on; further ones get the last.
func StartScript(t testing.TB, scripts ...Script) *ScriptServer {
	t.Helper()
	l := listen(t)
	s := &ScriptServer{
		Address: l.Addr().String(), listener: l, scripts: scripts,
		done: make(chan struct{}), open: make(map[net.Conn]string),
	}
	s.serving.Go(s.accept)
	t.Cleanup(func() {
		s.close()
		if t.Failed() {
			t.Logf("the scripted server was sent:\n%s", strings.Join(s.Lines(), "\n"))
		}
	})
	return s
}

// Follow has connections from now on get another script.
func (s *ScriptServer) Follow(script Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts = []Script{script}
}

// Lines returns all lines that clients have sent, of all connections, without
// CRLF.
func (s *ScriptServer) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

// Accepted returns how many connections there have been.
func (s *ScriptServer) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Open returns how many connections there are.
func (s *ScriptServer) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func (s *ScriptServer) close() {
	close(s.done)
	s.listener.Close()
	s.mu.Lock()
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *ScriptServer) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		script := s.scripts[0]
		if len(s.scripts) > 1 {
			s.scripts = s.scripts[1:]
		}
		s.open[c] = ""
		s.count++
		s.mu.Unlock()
		s.serving.Go(func() {
			s.follow(c, script)
			c.Close()
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

func (s *ScriptServer) follow(conn net.Conn, script Script) {
	c := &ScriptConn{Conn: conn, R: bufio.NewReader(conn), done: s.done}
	if script.TLS != nil && StartTLS(script.TLS)(c) != nil {
		return
	}
	if !c.do(script.Greet) {
		return
	}
	for {
		line, err := c.R.ReadString('\n')
		if err != nil {
			return
		}
		c.line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.lines = append(s.lines, c.line)
		s.mu.Unlock()
		if !c.apply(script.Rules) {
			return
		}
	}
}

func (c *ScriptConn) do(acts []Act) bool {
	for _, act := range acts {
		if act(c) != nil {
			return false
		}
	}
	return true
}

// apply does what the first rule that fits the line says.
func (c *ScriptConn) apply(rules []Rule) bool {
	for _, r := range rules {
		c.rule = regexp.MustCompile("(?i)^(?:" + r.Line + ")$")
		if c.match = c.rule.FindStringSubmatchIndex(c.line); c.match != nil {
			return c.do(r.Do)
		}
	}
	return false
}
