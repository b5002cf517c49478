package admin

import "context"

// Me is who asks, as the API knows them.
type Me struct {
	Name  string `json:"name"`
	Scope Scope  `json:"scope" enum:"none,read,accounts,all"`
}

// whoAmI says who asks and what they may do, so that a page need not show what
// would fail. Operators by key have the scope that includes all others.
func whoAmI(who Actor) *Me {
	if who.Operator {
		return &Me{who.Name, ScopeAll}
	}
	return &Me{who.Name, who.Scope}
}

// addConsole adds the operations that the operator's pages want besides.
func (a *api) addConsole() {
	const tag = "gateway"
	add(a, operation{id: "getActivity", tag: tag, action: "metrics", method: "GET", path: "/activity", summary: "What happens on the gateway, in numbers for charts"},
		func(ctx context.Context, who Actor, _ *nothing) (*body[*Activity], error) {
			return answer(a.Activity(ctx, who))
		})
	add(a, operation{id: "whoAmI", tag: tag, action: "whoami", method: "GET", path: "/whoami", summary: "Who is asking, and what they may do"},
		func(_ context.Context, who Actor, _ *nothing) (*body[*Me], error) {
			return answer(whoAmI(who), nil)
		})
}
