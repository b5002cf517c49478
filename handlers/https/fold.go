package https

import (
	"bytes"
	"net"
	"strconv"
	"strings"
)

// unfolded is a connection of HTTP/1.1 on which net/http refuses folded header
// lines. RFC 9112 section 5.2 lets a server join them, as net/http does, but
// whoever sends them today wants two servers to read two different requests.
type unfolded struct {
	net.Conn
	scan foldScan
}

func (c *unfolded) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.scan.spoil(p[:n])
	return n, err
}

// NetConn returns the connection below.
func (c *unfolded) NetConn() net.Conn { return c.Conn }

// CloseWrite lets net/http's last words arrive.
func (c *unfolded) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// foldScan follows the header sections in a stream of requests.
type foldScan struct {
	line   []byte // what is known of the present line
	lines  int    // of the present header section that are complete
	length uint64 // of the body behind it
	body   uint64 // octets of the present body that are to come
	last   bool   // net/http ends the connection after this request, or hands it on
	over   bool   // nothing that follows is of interest
}

// lineHead is how much of a line has to be known: a name and a number.
const lineHead = 64

// spoil makes what begins a folded line a field without a name, which net/http
// answers with 400 before it closes the connection.
func (s *foldScan) spoil(p []byte) {
	for len(p) > 0 && !s.over {
		if s.body > 0 {
			n := min(s.body, uint64(len(p)))
			s.body -= n
			p = p[n:]
			continue
		}
		if len(s.line) == 0 && s.lines > 0 && (p[0] == ' ' || p[0] == '\t') {
			p[0] = ':'
		}
		end := bytes.IndexByte(p, '\n') + 1
		part := p[:end]
		if end == 0 {
			part = p
		}
		s.line = append(s.line, part[:min(len(part), lineHead-len(s.line))]...)
		if end > 0 {
			s.endLine()
		}
		p = p[len(part):]
	}
}

// endLine looks at a line that is complete.
func (s *foldScan) endLine() {
	line := strings.TrimSuffix(strings.TrimSuffix(string(s.line), "\n"), "\r")
	s.line = s.line[:0]
	switch {
	case line == "" && s.lines > 0:
		s.over = s.last
		s.lines, s.body, s.length = 0, s.length, 0
		return
	case line == "": // where there should be a request
		s.over = true
	case s.lines > 0:
		name, value, _ := strings.Cut(line, ":")
		s.field(strings.ToLower(name), strings.Trim(value, " \t"))
	}
	s.lines++
}

// field looks for what says where the next request begins. front closes the
// connection after a Transfer-Encoding.
func (s *foldScan) field(name, value string) {
	switch name {
	case "content-length":
		n, err := strconv.ParseUint(value, 10, 63)
		s.length, s.last = n, s.last || err != nil
	case "transfer-encoding", "upgrade":
		s.last = true
	}
}
