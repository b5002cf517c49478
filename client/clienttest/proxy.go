package clienttest

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// Proxy says what a proxy is like. The zero value leads everybody everywhere.
type Proxy struct {
	User, Password string   // that it wants; empty: none
	Ports          []uint16 // that it leads to; nil: all
	// Answer, when not empty, is sent in place of the proxy's own answer, and then
	// the connection ends.
	Answer string
	// Silent takes what is said and never answers.
	Silent bool
}

func (p *Proxy) leads(address string) bool {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && (p.Ports == nil || slices.Contains(p.Ports, uint16(port)))
}

// HTTPProxy starts a proxy of the network that speaks HTTP CONNECT, and returns
// its URL, with user and password. What goes through it is subject to the rules
// like all else.
func (n *Network) HTTPProxy(p Proxy) *url.URL { return n.proxy("http", p, n.serveHTTP) }

// SOCKSProxy starts a proxy of the network that speaks SOCKS5.
func (n *Network) SOCKSProxy(p Proxy) *url.URL { return n.proxy("socks5", p, n.serveSOCKS) }

func (n *Network) proxy(scheme string, p Proxy, serve func(net.Conn, *Proxy)) *url.URL {
	n.mu.Lock()
	defer n.mu.Unlock()
	ln := n.listen(func(c net.Conn) {
		switch {
		case p.Silent:
			_, _ = io.Copy(io.Discard, c)
		case p.Answer != "":
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, p.Answer)
			finish(c)
			_, _ = io.Copy(io.Discard, c)
		default:
			serve(c, &p)
		}
	})
	u := &url.URL{Scheme: scheme, Host: ln.Addr().String()}
	n.proxies[u.Host] = true
	if p.User != "" {
		u.User = url.UserPassword(p.User, p.Password)
	}
	return u
}

// onward joins a proxy's client with the network.
func (n *Network) onward(c net.Conn, in io.Reader, address string, made func() error) error {
	r := n.current()
	out, err := n.dial(n.ctx, address, r.Ports)
	if err != nil {
		return err
	}
	defer out.Close()
	if !n.enter(out) {
		return net.ErrClosed
	}
	defer n.leave(out)
	if err := made(); err != nil {
		return nil
	}
	there := make(chan struct{})
	go func() {
		defer close(there)
		_, _ = io.Copy(out, in)
		finish(out)
	}()
	if _, err := io.Copy(c, out); err != nil {
		abort(c)
	}
	finish(c)
	<-there
	return nil
}

func (n *Network) serveHTTP(c net.Conn, p *Proxy) {
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	answer := func(status int, header string) {
		_, _ = io.WriteString(c, "HTTP/1.1 "+strconv.Itoa(status)+" "+http.StatusText(status)+"\r\n"+header+"Content-Length: 0\r\n\r\n")
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.User+":"+p.Password))
	switch {
	case p.User != "" && req.Header.Get("Proxy-Authorization") != want:
		answer(http.StatusProxyAuthRequired, "Proxy-Authenticate: Basic realm=\"test\"\r\n")
	case req.Method != http.MethodConnect || !p.leads(req.Host):
		answer(http.StatusForbidden, "")
	default:
		err := n.onward(c, in, req.Host, func() error {
			_, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
			return err
		})
		if err != nil {
			answer(http.StatusBadGateway, "")
		}
	}
}

// SOCKS5 (RFC 1928, RFC 1929).
const (
	socksVersion  = 5
	socksNoAuth   = 0
	socksPassword = 2
	socksNone     = 0xff
	socksConnect  = 1
	socksRefused  = 2 // not allowed by ruleset
	socksFailed   = 5 // connection refused
)

func (n *Network) serveSOCKS(c net.Conn, p *Proxy) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil || head[0] != socksVersion {
		return
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(c, methods); err != nil {
		return
	}
	method := byte(socksNoAuth)
	if p.User != "" {
		method = socksPassword
	}
	if !slices.Contains(methods, method) {
		method = socksNone
	}
	if _, err := c.Write([]byte{socksVersion, method}); err != nil || method == socksNone || method == socksPassword && !socksLogin(c, p) {
		return
	}
	address, ok := socksRequest(c)
	if !ok {
		return
	}
	answer := func(code byte) error {
		_, err := c.Write([]byte{socksVersion, code, 0, 1, 0, 0, 0, 0, 0, 0})
		return err
	}
	if !p.leads(address) {
		_ = answer(socksRefused)
		return
	}
	if n.onward(c, c, address, func() error { return answer(0) }) != nil {
		_ = answer(socksFailed)
	}
}

func socksLogin(c net.Conn, p *Proxy) bool {
	text := func() string {
		size := make([]byte, 1)
		if _, err := io.ReadFull(c, size); err != nil {
			return ""
		}
		b := make([]byte, size[0])
		_, _ = io.ReadFull(c, b)
		return string(b)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return false
	}
	if user, password := text(), text(); user != p.User || password != p.Password {
		_, _ = c.Write([]byte{1, 1})
		return false
	}
	_, err := c.Write([]byte{1, 0})
	return err == nil
}

func socksRequest(c net.Conn) (address string, ok bool) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil || head[1] != socksConnect {
		return "", false
	}
	var size int
	switch head[3] {
	case 1:
		size = net.IPv4len
	case 4:
		size = net.IPv6len
	case 3:
		length := make([]byte, 1)
		if _, err := io.ReadFull(c, length); err != nil {
			return "", false
		}
		size = int(length[0])
	}
	b := make([]byte, size+2)
	if _, err := io.ReadFull(c, b); err != nil {
		return "", false
	}
	host := string(b[:size])
	if head[3] != 3 {
		host = net.IP(b[:size]).String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(b[size:])))), true
}
