package admin

import (
	"context"
	"fmt"
	"net/http"

	"posthorn/accounts"
	"posthorn/alpn"
	"posthorn/mux"
)

// addConns adds the operations about connections and blocks.
func (a *api) addConns() {
	const tag = "connections"
	missing := []int{http.StatusNotFound}
	add(a, operation{id: "listConnections", tag: tag, action: "conn list", method: "GET", path: "/connections", summary: "The live connections, oldest first", fails: missing},
		a.listConns)
	add(a, operation{
		id: "closeConnections", tag: tag, action: "conn close", method: "DELETE", path: "/connections", summary: "End all connections of an account",
		about: "Its clients can connect again.", fails: missing,
	}, func(ctx context.Context, who Actor, in *struct {
		Account string `query:"account" required:"true" maxLength:"320" doc:"ID of the account, or one of its addresses."`
	}) (*body[closed], error) {
		n, err := a.CloseConns(ctx, who, in.Account)
		return answer(closed{n}, err)
	})
	add(a, operation{id: "closeConnection", tag: tag, action: "conn close", method: "DELETE", path: "/connections/{id}", summary: "End a connection",
		about: "Its client can connect again.", fails: missing},
		func(ctx context.Context, who Actor, in *struct {
			ID uint64 `path:"id"`
		}) (*body[closed], error) {
			return answer(closed{1}, a.CloseConn(ctx, who, in.ID))
		})
	add(a, operation{id: "listBlocks", tag: tag, action: "block list", method: "GET", path: "/blocks", summary: "The sources whose passwords are refused for a while"},
		func(ctx context.Context, who Actor, in *struct{ Cut }) (*body[*Page[accounts.Block]], error) {
			all, err := a.ListBlocks(ctx, who)
			if err != nil {
				return nil, err
			}
			return answer(ordered[accounts.Block]{items: all, name: func(b accounts.Block) string { return b.Source }}.page(in.Cut))
		})
	add(a, operation{id: "removeBlock", tag: tag, action: "block remove", method: "DELETE", path: "/blocks/{source}", summary: "Forget the failures of a source", fails: missing},
		func(ctx context.Context, who Actor, in *struct {
			Source string `path:"source" maxLength:"100" doc:"An IP address, a network or a fingerprint, as the list shows it."`
		}) (*nothing, error) {
			return done(a.RemoveBlock(ctx, who, in.Source))
		})
}

// closed is the answer to the end of connections.
type closed struct {
	Closed int `json:"closed"`
}

func (a *api) listConns(ctx context.Context, who Actor, in *struct {
	Cut
	Account  string `query:"account" maxLength:"320" doc:"Only those of an account, by ID or address."`
	Protocol string `query:"protocol" maxLength:"20" doc:"Only those that speak a protocol, by its ALPN ID."`
}) (*body[*Page[mux.Info]], error) {
	all, err := a.ListConns(ctx, who, in.Account)
	if err != nil {
		return nil, err
	}
	if in.Protocol != "" {
		some := all[:0]
		for _, c := range all {
			if c.Protocol == alpn.Protocol(in.Protocol) {
				some = append(some, c)
			}
		}
		all = some
	}
	return answer(ordered[mux.Info]{items: all, name: func(i mux.Info) string { return fmt.Sprintf("%020d", i.ID) }}.page(in.Cut))
}
