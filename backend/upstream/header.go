package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// Header is what a PROXY protocol header tells of a client. The zero value is
// the header of the gateway's own connections (LOCAL).
type Header struct {
	Remote, Local netip.AddrPort
	ServerName    string
	TLS           *tls.ConnectionState
	// CommonName is the subject CN of a verified client certificate: for
	// servers that take the user name from there. It needs TLS and addresses.
	CommonName string
}

// maxHeader is the most that Postfix takes: what every TCP can carry in one
// segment. Dovecot takes 1500 octets.
const maxHeader = 536

var errCommonName = errors.New("user name does not fit into a PROXY header")

// marshal returns the header in version 2 of the PROXY protocol. What does not
// fit is left out, but for the CN.
func (h *Header) marshal() ([]byte, error) {
	if !h.Remote.IsValid() || !h.Local.IsValid() {
		if h.CommonName != "" {
			return nil, errCommonName
		}
		return (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}).Format()
	}
	p := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(h.Remote), net.TCPAddrFromAddrPort(h.Local))
	secured, err := h.secured()
	if err != nil {
		return nil, err
	}
	all := append(secured, h.names()...) // what matters most comes first
	for n := len(all); n >= len(secured); n-- {
		if p.SetTLVs(all[:n]) != nil {
			continue
		}
		if b, err := p.Format(); err == nil && len(b) <= maxHeader {
			return b, nil
		}
	}
	return nil, errCommonName
}

// names are the TLVs for what the client asked for.
func (h *Header) names() (all []proxyproto.TLV) {
	if h.TLS != nil && h.TLS.NegotiatedProtocol != "" {
		all = append(all, proxyproto.TLV{Type: proxyproto.PP2_TYPE_ALPN, Value: []byte(h.TLS.NegotiatedProtocol)})
	}
	if isHostName(h.ServerName) {
		all = append(all, proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte(h.ServerName)})
	}
	return all
}

// isHostName keeps what else a client may call a server away from the server's
// logs and look-ups.
func isHostName(s string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
	}
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, odd)
}

// secured is the TLV for the client's TLS, none without.
func (h *Header) secured() ([]proxyproto.TLV, error) {
	if h.TLS == nil {
		if h.CommonName != "" {
			return nil, errCommonName
		}
		return nil, nil
	}
	s := tlvparse.PP2SSL{
		Client: tlvparse.PP2_BITFIELD_CLIENT_SSL,
		Verify: 1,
		TLV: []proxyproto.TLV{
			{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte(versionName(h.TLS.Version))},
			{Type: proxyproto.PP2_SUBTYPE_SSL_CIPHER, Value: []byte(cipherName(h.TLS.CipherSuite))},
		},
	}
	if h.CommonName != "" {
		// Dovecot would take the name up to a NUL for the whole of it.
		if !utf8.ValidString(h.CommonName) || strings.ContainsFunc(h.CommonName, unicode.IsControl) {
			return nil, errCommonName
		}
		s.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN | tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
		s.Verify = 0
		s.TLV = append(s.TLV, proxyproto.TLV{Type: proxyproto.PP2_SUBTYPE_SSL_CN, Value: []byte(h.CommonName)})
	}
	tlv, err := s.Marshal()
	return []proxyproto.TLV{tlv}, err
}

// versionName and cipherName are OpenSSL's names, which readers of the header
// know.
func versionName(version uint16) string {
	return strings.Replace(tls.VersionName(version), "TLS ", "TLSv", 1)
}

func cipherName(id uint16) string {
	name := tls.CipherSuiteName(id)
	if !strings.Contains(name, "_WITH_") {
		return name
	}
	return strings.NewReplacer("TLS_", "", "_WITH_", "-", "AES_", "AES", "POLY1305_SHA256", "POLY1305", "_", "-").Replace(name)
}
