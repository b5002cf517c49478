package backend

import (
	"context"
	"io"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"posthorn/accounts"
	"posthorn/backend/upstream"
)

// submissionServer is the submission part of a Proxy.
type submissionServer struct {
	config ProxyConfig
}

func newSubmissionServer(c ProxyConfig) (*submissionServer, error) {
	return &submissionServer{c}, nil
}

func (s *submissionServer) run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (s *submissionServer) status() []upstream.Status { return nil }

func (s *submissionServer) collectors() []prometheus.Collector { return nil }

// openWith opens a conversation with a user's own password. Its errors are
// those of accounts.Passwords.
func (s *submissionServer) openWith(context.Context, *Client, string, string) (io.Closer, error) {
	return nil, later
}

// OpenSubmission implements Backend.
func (p *Proxy) OpenSubmission(_ context.Context, l *accounts.Login, _ *Client) (smtp.Session, error) {
	closeOpened(l)
	return nil, later
}

// Submission implements Backend.
func (p *Proxy) Submission(*accounts.Login) Submission { return Submission{} }
