package admin

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Remote is a gateway that is asked over the network.
type Remote struct {
	// URL is https://HOST or https://HOST:PORT, where HOST is the gateway's
	// admin.host.
	URL string
	// TLS verifies the server's certificate (nil: by the system's CAs, for the
	// host of URL), and holds the operator's key, if that is what lets in.
	TLS *tls.Config
	// Token lets in who has no key; empty: none.
	Token string
}

// NewRemoteClient returns a client of a gateway somewhere else. Nothing is
// dialled before the first request. No redirect is followed: the credentials are
// for this gateway.
func NewRemoteClient(r Remote) (*Client, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, &InvalidError{"server", "must be https://HOST or https://HOST:PORT"}
	}
	t := &http.Transport{
		DialContext:     (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		HTTP2:           &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		TLSClientConfig: r.TLS, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 15 * time.Second,
	}
	refuse := func(req *http.Request, _ []*http.Request) error {
		return fmt.Errorf("the server sends its clients to %s", req.URL.Host)
	}
	return &Client{
		http:  &http.Client{Transport: t, CheckRedirect: refuse},
		base:  "https://" + u.Host + APIPath,
		token: r.Token,
	}, nil
}
