// Who the visitor is, and the token that says so if no client certificate does.
//
// The token is kept in sessionStorage. What speaks for it: it survives a reload and
// the way from page to page, and it is gone with the tab; other origins and other
// tabs do not see it, it is sent to nobody by itself (as a cookie would be, and so
// needs no guard against requests from elsewhere), and it stands in no address. What
// speaks against it: every script of this origin can read it. There is none but these:
// the pages' policy lets no other run, inline or from elsewhere, and lets no text
// become HTML (Trusted Types); the site behind is not served on the admin host. A
// script that got in regardless could as well use the token in place of reading it,
// so memory alone would gain nothing, and cost a sign-in for every page.

const key = "posthorn.token";

/** token returns the token; empty: there is none. */
export const token = () => sessionStorage.getItem(key) ?? "";

/** keepToken keeps a token until the tab is closed; empty: forgets it. */
export function keepToken(text) {
	if (text) {
		sessionStorage.setItem(key, text);
	} else {
		sessionStorage.clear(); // what a page has kept too
	}
}

/** me is who the API says is asking; null as long as it has not. */
let me = null;

/** iAm notes the API's answer about who is asking. */
export const iAm = (answer) => (me = answer);

/** known reports whether the API has said who is asking. */
export const known = () => me !== null;

const scopes = ["read", "accounts", "all"];

/** may reports whether the visitor's scope includes another. The API decides; this only keeps away what would fail. */
export const may = (scope) => me !== null && scopes.indexOf(me.scope) >= scopes.indexOf(scope);
