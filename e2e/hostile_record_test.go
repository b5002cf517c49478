package e2e

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"net"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"
)

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func fromBase64(s string) string {
	b, _ := base64.StdEncoding.DecodeString(s)
	return string(b)
}

// tapConn is a client's connection below TLS that can damage what goes out.
type tapConn struct {
	net.Conn
	last    []byte // what came last, in one segment
	unread  []byte // of it
	corrupt atomic.Bool
}

func (c *tapConn) Read(b []byte) (int, error) {
	if len(c.unread) == 0 {
		c.last = make([]byte, 1<<16)
		n, err := c.Conn.Read(c.last)
		if c.last = c.last[:n]; err != nil {
			return 0, err
		}
		c.unread = c.last
	}
	n := copy(b, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *tapConn) Write(b []byte) (int, error) {
	if c.corrupt.Load() {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
	}
	return c.Conn.Write(b)
}

// recordsIn counts the TLS records that begin in b, which begins with one.
func recordsIn(b []byte) (n int) {
	for len(b) >= 5 {
		n++
		b = b[min(len(b), 5+int(b[3])<<8+int(b[4])):]
	}
	return n
}

// sealed is a client of TLS 1.3 that can send records which crypto/tls would
// not, after its handshake.
type sealed struct {
	net.Conn
	tls    *tls.Conn
	secret []byte // of the client's application traffic
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newSealed(c net.Conn, config *tls.Config) *sealed {
	s := &sealed{Conn: c}
	config = config.Clone()
	config.MinVersion = tls.VersionTLS13
	config.KeyLogWriter = s
	s.tls = tls.Client(c, config)
	return s
}

// Write takes the lines of crypto/tls's key log.
func (s *sealed) Write(line []byte) (int, error) {
	if words := strings.Fields(string(line)); words[0] == "CLIENT_TRAFFIC_SECRET_0" {
		var err error
		if s.secret, err = hex.DecodeString(words[2]); err != nil {
			return 0, err
		}
	}
	return len(line), nil
}

// write sends a record of a type (RFC 8446 section 5.2).
func (s *sealed) write(typ byte, payload []byte) error {
	if s.aead == nil {
		if err := s.keys(); err != nil {
			return err
		}
	}
	inner := append(bytes.Clone(payload), typ)
	header := []byte{23, 3, 3, 0, 0}
	size := len(inner) + s.aead.Overhead()
	header[3], header[4] = byte(size>>8), byte(size)
	nonce := bytes.Clone(s.iv)
	for i := range 8 {
		nonce[len(nonce)-1-i] ^= byte(s.seq >> (8 * i))
	}
	s.seq++
	_, err := s.Conn.Write(s.aead.Seal(header, nonce, inner, header))
	return err
}

// keys derives the keys of the secret (RFC 8446 section 7.3).
func (s *sealed) keys() error {
	suite := s.tls.ConnectionState().CipherSuite
	newHash, size := sha256.New, 16
	switch suite {
	case tls.TLS_AES_256_GCM_SHA384:
		newHash, size = sha512.New384, 32
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		size = 32
	}
	key, err := expandLabel(newHash, s.secret, "key", size)
	if err != nil {
		return err
	}
	if s.iv, err = expandLabel(newHash, s.secret, "iv", 12); err != nil {
		return err
	}
	if suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		s.aead, err = chacha20poly1305.New(key)
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	s.aead, err = cipher.NewGCM(block)
	return err
}

// expandLabel is HKDF-Expand-Label without a context (RFC 8446 section 7.1).
func expandLabel(newHash func() hash.Hash, secret []byte, label string, size int) ([]byte, error) {
	if len(secret) == 0 {
		return nil, errors.New("the handshake left no secret")
	}
	info := []byte{byte(size >> 8), byte(size), byte(len("tls13 " + label))}
	return hkdf.Expand(newHash, secret, string(info)+"tls13 "+label+"\x00", size)
}
