package admin

import (
	"context"
	"net/http"
)

// TokenPath is the part of a path that names a token.
type TokenPath struct {
	ID string `path:"id" maxLength:"32"`
}

// addTokens adds the operations about tokens.
func (a *api) addTokens() {
	const tag = "tokens"
	missing := []int{http.StatusNotFound}
	add(a, operation{id: "listTokens", tag: tag, action: "token list", method: "GET", path: "/tokens", summary: "The tokens, oldest first"},
		func(ctx context.Context, who Actor, in *struct{ Cut }) (*body[*Page[Token]], error) {
			all, err := a.ListTokens(ctx, who)
			if err != nil {
				return nil, err
			}
			return answer(ordered[Token]{items: all, name: func(t Token) string { return stamp(t.Created) + t.ID }}.page(in.Cut))
		})
	add(a, operation{
		id: "addToken", tag: tag, action: "token add", method: "POST", path: "/tokens", summary: "Make a token", status: http.StatusCreated,
		about: "Its text is in the answer, and can be read nowhere else.",
	}, func(ctx context.Context, who Actor, in *struct{ Body NewToken }) (*body[*CreatedToken], error) {
		return answer(a.AddToken(ctx, who, in.Body))
	})
	add(a, operation{id: "getToken", tag: tag, action: "token list", method: "GET", path: "/tokens/{id}", summary: "A token", fails: missing},
		func(ctx context.Context, who Actor, in *TokenPath) (*body[*Token], error) {
			return answer(a.ShowToken(ctx, who, in.ID))
		})
	add(a, operation{id: "removeToken", tag: tag, action: "token remove", method: "DELETE", path: "/tokens/{id}", summary: "Revoke a token", fails: missing},
		func(ctx context.Context, who Actor, in *TokenPath) (*nothing, error) {
			return done(a.RemoveToken(ctx, who, in.ID))
		})
}
