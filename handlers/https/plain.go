package https

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/netutil"

	"posthorn/handlers/https/sites"
)

// Plain serves port 80, in cleartext: what a CA asks there is answered, and
// whoever else comes is sent to HTTPS.
type Plain struct {
	// Serves reports whether a host name (lower case, no port) is one of the
	// gateway's.
	Serves func(host string) bool
	// Port is HTTPS's, where requests are sent.
	Port int
	// Challenges answers what a CA asks, and leaves the rest to next; nil: no CA
	// asks anything.
	Challenges func(next http.Handler) http.Handler
}

// What strangers can take of it. There is one request on a connection, with
// nothing worth reading behind its header.
const (
	plainTimeout = 5 * time.Second
	plainHeader  = 8 << 10
	plainConns   = 1000
)

// Serve serves on ln, which it closes, until ctx ends.
func (p *Plain) Serve(ctx context.Context, ln net.Listener) error {
	var h http.Handler = http.HandlerFunc(p.redirect)
	if p.Challenges != nil {
		h = p.Challenges(h)
	}
	server := &http.Server{
		Handler: h, ReadTimeout: plainTimeout, WriteTimeout: plainTimeout, MaxHeaderBytes: plainHeader,
		ErrorLog: log.New(io.Discard, "", 0), DisableGeneralOptionsHandler: true,
	}
	server.SetKeepAlivesEnabled(false)
	served := make(chan error, 1)
	go func() { served <- server.Serve(netutil.LimitListener(ln, plainConns)) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(stop) != nil {
		server.Close()
	}
	<-served
	return nil
}

// redirect sends requests for the names that are served to HTTPS. The others
// are misdirected, so that nobody is sent away to a name of somebody's choice.
func (p *Plain) redirect(w http.ResponseWriter, r *http.Request) {
	host := hostname(r.Host)
	switch {
	case host == "":
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return
	case !p.Serves(host):
		http.Error(w, http.StatusText(http.StatusMisdirectedRequest), http.StatusMisdirectedRequest)
		return
	case !sites.Upright(r.URL.Path):
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return
	}
	if p.Port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(p.Port))
	}
	w.Header().Set("Location", "https://"+host+r.URL.RequestURI())
	w.WriteHeader(http.StatusPermanentRedirect)
}
