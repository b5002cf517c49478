package admin

import (
	"context"
	"net/http"

	"posthorn/sessions"
)

// addSessions adds the operations about people who are signed in to web pages.
func (a *api) addSessions() {
	const tag = "sessions"
	missing := []int{http.StatusNotFound}
	add(a, operation{id: "listSessions", tag: tag, action: "session list", method: "GET", path: "/sessions", summary: "The web sessions, oldest first", fails: missing},
		func(ctx context.Context, who Actor, in *struct {
			Cut
			Account string `query:"account" maxLength:"320" doc:"Only those of an account, by ID or address."`
		}) (*body[*Page[sessions.Session]], error) {
			all, err := a.ListSessions(ctx, who, in.Account)
			if err != nil {
				return nil, err
			}
			name := func(s sessions.Session) string { return stamp(s.Created) + s.ID }
			return answer(ordered[sessions.Session]{items: all, name: name}.page(in.Cut))
		})
	add(a, operation{id: "endSessions", tag: tag, action: "session end", method: "DELETE", path: "/sessions", summary: "Sign out all web sessions of an account", fails: missing},
		func(ctx context.Context, who Actor, in *struct {
			Account string `query:"account" required:"true" maxLength:"320" doc:"ID of the account, or one of its addresses."`
		}) (*body[closed], error) {
			n, err := a.EndSessions(ctx, who, in.Account, "")
			return answer(closed{n}, err)
		})
	add(a, operation{id: "endSession", tag: tag, action: "session end", method: "DELETE", path: "/sessions/{id}", summary: "Sign out a web session", fails: missing},
		func(ctx context.Context, who Actor, in *struct {
			ID string `path:"id" maxLength:"200"`
		}) (*nothing, error) {
			return done(a.EndSession(ctx, who, in.ID))
		})
}
