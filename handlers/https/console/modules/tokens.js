// Tokens for the API.
import { call, path } from "./api.js";
import { when } from "./cells.js";
import { fill, sure, tell } from "./dialog.js";
import { badge, button, find, list, name, plain, time } from "./dom.js";
import { act, all, page, said } from "./frame.js";
import { Table } from "./table.js";
import { known, t } from "./texts.js";

const table = new Table(find("#tokens"), (k) => k.id, [
	{ value: (k) => k.name, show: (k) => name(k.name) },
	{ value: (k) => known("scope.", k.scope) },
	when("created"),
	{ value: (k) => k.expires, show: (k) => list(time(k.expires), k.expires && new Date(k.expires) < new Date() ? badge(t("token.expired"), "bad") : null) },
	when("last_used"),
	{ value: (k) => k.id, show: (k) => button(t("token.revoke"), k.name, () => revoke(k), "danger") },
]);

page({
	load: async (signal) => table.show((await all("/tokens", {}, 1000, signal)).items),
	every: 15,
	needs: "all",
	begin: () => find("#add").addEventListener("click", add),
});

async function add() {
	const made = await fill(find("#token-dialog"), {
		submit: async (form) => {
			const f = form.elements;
			const expires = new Date(Date.now() + Number(f.days.value) * 24 * 3600_000).toISOString();
			return (await call("POST", "/tokens", { body: { name: f.name.value.trim(), scope: f.scope.value, expires } })).value;
		},
	});
	if (!made) {
		return;
	}
	await tell({ title: t("token.made", { name: plain(made.name) }), text: t("token.text"), secret: made.token });
	said(t("token.added"));
}

async function revoke(k) {
	const question = { title: t("token.revoke.title"), text: t("token.revoke.text", { name: plain(k.name) }), action: t("token.revoke") };
	if (await sure(question)) {
		await act(() => call("DELETE", path`/tokens/${k.id}`), t("token.revoked"));
	}
}
