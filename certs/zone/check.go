package zone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// ErrAnswer says that a resolver could not answer.
var ErrAnswer = errors.New("the resolver failed")

// Resolver asks a recursive resolver. The standard library's knows no HTTPS,
// SVCB, TLSA and CAA records.
type Resolver struct {
	Server string // HOST:PORT
}

// System returns the first resolver of /etc/resolv.conf.
func System() (*Resolver, error) {
	c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil, fmt.Errorf("find a resolver: %w", err)
	}
	if len(c.Servers) == 0 {
		return nil, errors.New("find a resolver: /etc/resolv.conf names none")
	}
	return &Resolver{Server: net.JoinHostPort(c.Servers[0], c.Port)}, nil
}

// Finding is a record beside what resolves.
type Finding struct {
	Record
	// OK says that the record is there, alone or among others.
	OK bool
	// Found is the data of all records of that name and type.
	Found []string
	// Err is why it could not be told; then OK is false.
	Err error
}

// Check looks every record up. Its error is about a record that is none, or
// ctx's; what a resolver fails at is in the findings.
func (r *Resolver) Check(ctx context.Context, records []Record) ([]Finding, error) {
	type question struct{ name, kind string }
	type answer struct {
		found []dns.RR
		err   error
	}
	answers := make(map[question]answer)
	findings := make([]Finding, 0, len(records))
	for _, record := range records {
		want, err := dns.NewRR(record.String())
		if err != nil {
			return nil, fmt.Errorf("record %s: %w", record, err)
		}
		q := question{record.Name, record.Type}
		a, asked := answers[q]
		if !asked {
			a.found, a.err = r.ask(ctx, want.Header().Name, want.Header().Rrtype)
			if err := ended(ctx); err != nil {
				return nil, fmt.Errorf("check records: %w", err)
			}
			answers[q] = a
		}
		f := Finding{Record: record, Err: a.err}
		for _, rr := range a.found {
			f.Found = append(f.Found, data(rr))
			f.OK = f.OK || same(rr, want)
		}
		findings = append(findings, f)
	}
	return findings, nil
}

// ended returns why ctx has ended, or has just about: a read ends at its deadline,
// which may be a moment before ctx itself does.
func ended(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return context.Cause(ctx)
}

// ask returns the records of a name and type, following aliases as far as the
// resolver did. That there are none is no error.
func (r *Resolver) ask(ctx context.Context, name string, kind uint16) (found []dns.RR, err error) {
	q := new(dns.Msg)
	q.SetQuestion(name, kind)
	q.SetEdns0(1232, false)
	udp := &dns.Client{}
	answer, _, err := udp.ExchangeContext(ctx, q, r.Server)
	if err == nil && answer.Truncated {
		tcp := &dns.Client{Net: "tcp"}
		answer, _, err = tcp.ExchangeContext(ctx, q, r.Server)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("%w: %s", ErrAnswer, dns.RcodeToString[answer.Rcode])
	}
	for _, rr := range answer.Answer {
		if rr.Header().Rrtype == kind {
			found = append(found, rr)
		}
	}
	return found, nil
}

// same compares records but for their time to live, and for their name, which
// may be what an alias points to.
func same(got, want dns.RR) bool {
	got = dns.Copy(got)
	got.Header().Name = want.Header().Name
	return dns.IsDuplicate(got, want)
}

// data is what stands behind the type in a zone file.
func data(rr dns.RR) string { return strings.TrimPrefix(rr.String(), rr.Header().String()) }
