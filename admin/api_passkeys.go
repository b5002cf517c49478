package admin

import (
	"context"
	"net/http"

	"posthorn/passkeys"
)

// addPasskeys adds the operations about passkeys. None makes one: that takes a
// browser, and whoever it is for.
func (a *api) addPasskeys() {
	const tag = "passkeys"
	missing := []int{http.StatusNotFound}
	add(a, operation{id: "listPasskeys", tag: tag, action: "passkey list", method: "GET", path: "/accounts/{account}/passkeys",
		summary: "The passkeys of an account, oldest first", fails: missing},
		func(ctx context.Context, who Actor, in *struct{ AccountPath }) (*body[Passkeys], error) {
			all, err := a.ListPasskeys(ctx, who, in.Account)
			return answer(Passkeys{append([]passkeys.Passkey{}, all...)}, err)
		})
	add(a, operation{id: "removePasskey", tag: tag, action: "passkey remove", method: "DELETE", path: "/accounts/{account}/passkeys/{id}",
		summary: "Delete a passkey, and sign out the web sessions that it opened", fails: missing},
		func(ctx context.Context, who Actor, in *struct {
			AccountPath
			ID string `path:"id" maxLength:"100" doc:"As the list shows it."`
		}) (*body[closed], error) {
			n, err := a.RemovePasskey(ctx, who, in.Account, in.ID, "")
			return answer(closed{n}, err)
		})
}

// Passkeys are the passkeys of an account.
type Passkeys struct {
	Items []passkeys.Passkey `json:"items" nullable:"false"`
}
