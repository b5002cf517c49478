package admin

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// addGateway adds the operations about the gateway as a whole.
func (a *api) addGateway() {
	const tag = "gateway"
	add(a, operation{id: "getStatus", tag: tag, action: "status", method: "GET", path: "/status", summary: "What the gateway says about itself"},
		func(ctx context.Context, who Actor, _ *nothing) (*body[*Status], error) {
			return answer(a.Status(ctx, who))
		})
	add(a, operation{id: "getMetrics", tag: tag, action: "metrics", method: "GET", path: "/metrics", summary: "Counters and gauges, in Prometheus' text format"}, a.getMetrics)
	add(a, operation{id: "listLimits", tag: tag, action: "limit list", method: "GET", path: "/limits", summary: "The limits, as they are in force and as they are configured"},
		func(ctx context.Context, who Actor, in *struct{ Cut }) (*body[*Page[Limit]], error) {
			all, err := a.ListLimits(ctx, who)
			if err != nil {
				return nil, err
			}
			return answer(ordered[Limit]{items: all, name: func(l Limit) string { return l.Name }}.page(in.Cut))
		})
	add(a, operation{id: "listBackends", tag: tag, action: "backend list", method: "GET", path: "/backends", summary: "The state of every backend's servers"},
		func(ctx context.Context, who Actor, in *struct{ Cut }) (*body[*Page[BackendStatus]], error) {
			all, err := a.ListBackends(ctx, who)
			if err != nil {
				return nil, err
			}
			name := func(b BackendStatus) string { return b.Name + "\x00" + b.Service + "\x00" + b.Address }
			return answer(ordered[BackendStatus]{items: all, name: name}.page(in.Cut))
		})
	add(a, operation{
		id: "listAudit", tag: tag, action: "audit", method: "GET", path: "/audit", summary: "The audit trail, newest first",
		about: "Every change, and every one that was begun and failed: who, what, from where, when, and how it ended. Who was not allowed to begin is in the log.",
	}, a.listAudit)
	add(a, operation{
		id: "getBackup", tag: tag, action: "backup", method: "GET", path: "/backup", summary: "A backup of everything, as a ZIP archive",
		about: "A consistent copy of accounts, keys, certificates and mail while the gateway serves. It holds secrets. " +
			"One that breaks off ends the connection; a ZIP archive without its directory is not whole.",
		fails: []int{http.StatusNotImplemented}, slow: true,
	}, a.getBackup)
}

type auditQuery struct {
	Cut
	Account string    `query:"account" doc:"Only what concerns an account, by ID or address."`
	Actor   string    `query:"actor" doc:"Only those whose actor contains this text."`
	Action  string    `query:"action" doc:"Only those whose action begins with this text, such as key or key add."`
	Since   time.Time `query:"since" doc:"Only those at this time or later."`
	Until   time.Time `query:"until" doc:"Only those before this time."`
}

func (a *api) listAudit(ctx context.Context, who Actor, in *auditQuery) (*body[*Page[Event]], error) {
	f := AuditFilter{Account: in.Account, Actor: in.Actor, Action: in.Action, Since: in.Since, Until: in.Until}
	all, err := a.FindAudit(ctx, who, f)
	if err != nil {
		return nil, err
	}
	return answer(ordered[Event]{items: all, name: func(e Event) string { return e.ID }, newest: true}.page(in.Cut))
}

// stream is an answer that an operation writes by itself.
type stream struct{ Body func(huma.Context) }

// getBackup streams. An error after the first byte cuts the answer off, which
// the client cannot mistake for its end.
func (a *api) getBackup(ctx context.Context, who Actor, _ *nothing) (*stream, error) {
	if err := a.mayBackup(who); err != nil {
		return nil, err
	}
	return &stream{func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", "application/zip")
		out := &backupWriter{w: w, asked: time.Now()}
		out.still, _ = ctx.Value(stillKey{}).(func() error)
		err := a.Backup(ctx, who, out)
		switch {
		case err != nil && out.n > 0:
			a.Log.Error().Err(err).Msg("backup broke off")
			panic(http.ErrAbortHandler)
		case err != nil:
			w.Header().Del("Content-Type")
			writeProblem(w, a.problem(err, who, "getBackup"))
		}
	}}, nil
}

// takeTime lifts the time limit of an answer that may take long. That its client
// keeps taking it is seen to below.
func takeTime(w http.ResponseWriter) { _ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) }

func (a *api) getMetrics(_ context.Context, who Actor, _ *nothing) (*stream, error) {
	if err := a.operator(who, "metrics"); err != nil {
		return nil, err
	}
	if a.Metrics == nil {
		return nil, &Problem{Status: http.StatusNotFound, Code: CodeNotFound, Detail: "there are no metrics"}
	}
	return &stream{func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	}}, nil
}

// backupWriter counts what it writes, as long as who asks still may: a backup takes
// its time, and whoever revokes a token that was stolen wants no more to be taken.
type backupWriter struct {
	w     io.Writer
	n     int64
	still func() error
	asked time.Time // when still was
}

// askAgain is how often backupWriter asks.
const askAgain = time.Second

func (b *backupWriter) Write(p []byte) (int, error) {
	if now := time.Now(); now.Sub(b.asked) >= askAgain {
		b.asked = now
		if err := b.still(); err != nil {
			return 0, err
		}
	}
	n, err := b.w.Write(p)
	b.n += int64(n)
	return n, err
}
