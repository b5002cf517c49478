// One account and everything that is its.
import { call, get, path, Problem } from "./api.js";
import { auditColumns, connectionColumns, endConnections, how, protocolName, sessionColumns, when } from "./cells.js";
import { changes, fill, sure, tell } from "./dialog.js";
import { badge, button, find, list, make, name, plain, replace, time } from "./dom.js";
import { act, all, leave, page, said } from "./frame.js";
import { day, number, size } from "./format.js";
import { may } from "./session.js";
import { Table } from "./table.js";
import { known, t } from "./texts.js";

const id = decodeURIComponent(location.pathname.split("/").at(-1));
const where = path`/accounts/${id}`;
let account = null; // as the API has last told
let etag = "";

page({ load, every: 5, begin });

async function load(signal) {
	const [one, keys, connections, sessions, logins, audit] = await Promise.all([
		call("GET", where, { signal }),
		all("/keys", { account: id }, 1000, signal),
		all("/connections", { account: id }, 200, signal),
		all("/sessions", { account: id }, 200, signal),
		get(`${where}/logins`, {}, signal),
		all("/audit", { account: id }, 10, signal),
	]);
	account = one.value;
	etag = one.etag;
	facts();
	keyTable.show(keys.items);
	connectionTable.show(connections.items);
	sessionTable.show(sessions.items);
	find("#end-connections").hidden = !may("accounts") || connections.total === 0;
	find("#end-sessions").hidden = !may("accounts") || sessions.total === 0;
	loginTable.show(logins.items ?? []);
	auditTable.show(audit.items);
}

const primary = () => account.addresses[0];

function facts() {
	const change = may("accounts");
	replace(find("h1"), name(primary()));
	document.title = `${plain(primary())} – Posthorn`;
	replace(find("#state"), account.disabled ? badge(t("account.disabled"), "bad") : badge(t("account.enabled"), "good"));
	replace(find("#fact-id"), account.id);
	replace(find("#fact-created"), time(account.created));
	replace(find("#fact-backend"), name(account.home.backend));
	replace(find("#fact-password"), account.home.keeps_passwords ? t("account.password.elsewhere") : account.has_password ? t("yes") : t("no"));
	replace(find("#fact-mail"), account.mail ? t("account.mail", { size: size(account.mail.bytes), n: account.mail.messages }) : t("account.mail.elsewhere"));
	find("#disable").textContent = account.disabled ? t("account.enable") : t("account.disable");
	find("#password").hidden = !change || account.home.keeps_passwords;
	addressTable.show(account.addresses.map((a, i) => ({ address: a, only: account.addresses.length === 1, primary: i === 0 })));
}

const addressTable = new Table(find("#addresses"), (a) => a.address, [
	{ value: (a) => `${a.address} ${a.primary}`, show: (a) => list(name(a.address), a.primary ? badge(t("account.primary")) : null) },
	{
		value: (a) => a.only || !may("accounts"),
		show: (a) => (a.only || !may("accounts") ? "" : button(t("address.remove"), a.address, () => removeAddress(a.address), "danger")),
	},
]);

const keyTable = new Table(find("#keys"), (k) => k.fingerprint, [
	{ value: (k) => k.name, show: (k) => name(k.name) },
	{ value: (k) => `${k.type} ${k.fingerprint}`, show: (k) => make("div", {}, plain(k.type), make("div", { class: "mono dim" }, k.fingerprint)) },
	when("created"),
	{ value: (k) => `${k.last_used} ${k.last_use}`, show: (k) => make("div", {}, time(k.last_used), k.last_use ? make("div", { class: "dim" }, name(k.last_use)) : null) },
	{ value: (k) => JSON.stringify(settings(k)), show: (k) => list(...settings(k).map(([text, kind]) => badge(text, kind))) },
	{
		value: () => may("accounts"),
		show: (k) => (may("accounts") ? list(button(t("key.change"), k.name, () => changeKey(k.fingerprint)), button(t("key.remove"), k.name, () => removeKey(k), "danger")) : ""),
	},
]);

/** settings are what is special about a key. */
function settings(k) {
	const all = [];
	if (k.no_preauth) {
		all.push([t("key.no_preauth"), ""]);
	}
	if (k.scope !== "all") {
		all.push([t("key.scope", { scope: k.scope }), ""]);
	}
	if (k.expires) {
		const over = new Date(k.expires) < new Date();
		all.push([t(over ? "key.expired" : "key.expires", { day: day(new Date(k.expires)) }), over ? "bad" : ""]);
	}
	return all;
}

const connectionTable = new Table(find("#connections"), (c) => c.id, connectionColumns({ account: false }));
const sessionTable = new Table(find("#sessions"), (s) => s.id, sessionColumns({ account: false }));
const auditTable = new Table(find("#audit"), (e) => e.id, auditColumns.filter((c, i) => i !== 3));
const loginTable = new Table(find("#logins"), (l) => JSON.stringify([l.since, l.protocol, l.mechanism, l.remote, l.reason, l.key]), [
	when("time"),
	{ value: (l) => l.reason, show: (l) => (l.reason ? badge(known("reason.", l.reason), "bad") : badge(t("login.ok"), "good")) },
	{ value: (l) => protocolName(l.protocol) },
	{ value: (l) => l.mechanism, show: (l) => how(l.mechanism, l.key) },
	{ value: (l) => l.remote, show: (l) => name(l.remote || "–") },
	{ number: true, value: (l) => number(l.count) },
]);

function begin() {
	const click = (selector, f) => find(selector).addEventListener("click", f);
	click("#disable", disable);
	click("#password", setPassword);
	click("#backend", setBackend);
	click("#remove", remove);
	click("#add-address", addAddress);
	click("#add-key", addKey);
	click("#end-connections", () => endConnections(id, primary()));
	click("#end-sessions", endSessions);
}

/**
 * guarded carries out a change that was decided on what the page has shown: seen. When
 * that is no more, nothing is done, and it says what has changed.
 */
async function guarded(seen, change, done) {
	return act(async () => {
		try {
			const result = await change(seen.etag);
			etag = ""; // what follows at once must not take this for somebody else's change
			return result;
		} catch (e) {
			if (e.status === 412) {
				throw new Problem(0, { detail: await meanwhile(seen.account) });
			}
			throw e;
		}
	}, done);
}

/** changed says that a form has been carried out. */
function changed(text) {
	etag = "";
	said(text);
}

/** seen is what the page shows. */
const seen = () => ({ account, etag });

/** ours is for forms about the account: what they change is what was there when they opened. */
function ours() {
	const base = account;
	const state = { tag: etag };
	state.conflict = async () => {
		const now = await call("GET", where);
		state.tag = now.etag;
		return changes(base, now.value, labels);
	};
	return state;
}

const yesNo = (v) => t(v ? "yes" : "no");
const labels = {
	disabled: [t("label.disabled"), yesNo],
	addresses: [t("label.addresses"), (v) => v.join(", ")],
	backend: [t("label.backend"), (v) => v ?? "–"],
	has_password: [t("label.password"), yesNo],
};

async function meanwhile(base) {
	const now = await get(where);
	const told = changes(base, now, labels).map(([what, before, is]) => `${what}: ${plain(before)} → ${plain(is)}`);
	return `${t("conflict.look")} ${told.join("; ")}`;
}

async function disable() {
	const at = seen();
	const disabled = !account.disabled;
	const question = { title: t("account.disable.title"), text: t("account.disable.text", { address: plain(primary()) }), action: t("account.disable") };
	if (disabled && !(await sure(question))) {
		return;
	}
	await guarded(at, (tag) => call("PATCH", where, { body: { disabled }, etag: tag }), t(disabled ? "account.now_disabled" : "account.now_enabled"));
}

async function remove() {
	const at = seen();
	const question = {
		title: t("account.remove.title"), text: t("account.remove.text", { address: plain(primary()) }),
		action: t("account.remove"), typed: primary(),
	};
	if (!(await sure(question))) {
		return;
	}
	const done = async (tag) => {
		await call("DELETE", where, { etag: tag });
		leave("/admin/accounts");
	};
	await guarded(at, done, "");
}

async function setPassword() {
	const at = ours();
	const done = await fill(find("#password-dialog"), {
		begin: (form) => {
			const kind = form.elements.password_kind;
			const look = () => (find("#chosen").hidden = kind.value !== "chosen");
			form.onchange = look;
			look();
		},
		submit: async (form) => {
			const f = form.elements;
			const body = { generate: { generate: true }, chosen: { chosen: f.chosen.value }, none: {} }[f.password_kind.value];
			if (f.password_kind.value === "chosen" && !f.chosen.value) {
				throw new Problem(0, { detail: t("password.empty") });
			}
			return (await call("PUT", `${where}/password`, { body, etag: at.tag })).value;
		},
		conflict: at.conflict,
	});
	if (!done) {
		return;
	}
	if (done.password) {
		await tell({ title: t("password.new", { address: plain(primary()) }), text: t("account.password.text"), secret: done.password });
	}
	changed(t("password.changed"));
}

async function setBackend() {
	const at = ours();
	const done = await fill(find("#backend-dialog"), {
		begin: (form) => (form.elements.backend.value = account.backend ?? ""),
		submit: (form) => call("PATCH", where, { body: { backend: form.elements.backend.value.trim() }, etag: at.tag }),
		conflict: at.conflict,
	});
	if (done) {
		changed(t("account.moved"));
	}
}

async function addAddress() {
	const at = ours();
	const done = await fill(find("#address-dialog"), {
		submit: (form) => call("PUT", where + path`/addresses/${form.elements.address.value.trim()}`, { etag: at.tag }),
		conflict: at.conflict,
	});
	if (done) {
		changed(t("address.added"));
	}
}

async function removeAddress(address) {
	const at = seen();
	const question = { title: t("address.remove.title"), text: t("address.remove.text", { address: plain(address) }), action: t("address.remove") };
	if (await sure(question)) {
		await guarded(at, (tag) => call("DELETE", where + path`/addresses/${address}`, { etag: tag }), t("address.removed"));
	}
}

/** scopeOf reads the boxes of a form for a key. */
function scopeOf(f) {
	const some = ["imap", "smtp", "https"].filter((p) => f[`scope_${p}`].checked);
	if (some.length === 0) {
		throw new Problem(0, { detail: t("key.scope.none") });
	}
	return some.length === 3 ? "all" : some.join(",");
}

async function addKey() {
	const added = await fill(find("#key-dialog"), {
		begin: (form) => keyForm(form, { name: "", scope: "all" }, true),
		submit: async (form) => {
			const f = form.elements;
			const body = { account: id, public_key: f.public_key.value, name: f.name.value.trim(), no_preauth: f.no_preauth.checked, scope: scopeOf(f) };
			if (f.expires.value) {
				body.expires = endOf(f.expires.value);
			}
			return (await call("POST", "/keys", { body })).value;
		},
	});
	if (added) {
		said(t("key.added", { name: plain(added.name) }));
	}
}

const endOf = (date) => `${date}T23:59:59Z`;
const never = "0001-01-01T00:00:00Z"; // how the API is told that a key does not expire

/** keyForm fills the form for a key. */
function keyForm(form, key, fresh) {
	const f = form.elements;
	find("#key-paste").hidden = !fresh;
	f.public_key.required = fresh;
	f.name.value = key.name;
	f.no_preauth.checked = key.no_preauth === true;
	f.expires.value = key.expires ? day(new Date(key.expires)) : "";
	f.expires.min = fresh ? day(new Date()) : "";
	for (const p of ["imap", "smtp", "https"]) {
		f[`scope_${p}`].checked = key.scope === "all" || key.scope.split(",").includes(p);
	}
	find("#key-title").textContent = fresh ? t("key.add") : t("key.change.title", { name: plain(key.name) });
	find("[value=ok]", form).textContent = fresh ? t("key.add") : t("key.save");
}

const keyLabels = {
	name: [t("label.name"), String],
	no_preauth: [t("key.no_preauth"), yesNo],
	expires: [t("label.expires"), (v) => (v ? day(new Date(v)) : t("never"))],
	scope: [t("label.scope"), String],
};

async function changeKey(fingerprint) {
	const at = path`/keys/${fingerprint}`;
	let was;
	if (!(await act(async () => { was = await call("GET", at); }, ""))) {
		return;
	}
	let tag = was.etag;
	const done = await fill(find("#key-dialog"), {
		begin: (form) => keyForm(form, was.value, false),
		submit: (form) => {
			const f = form.elements;
			const body = { name: f.name.value.trim(), no_preauth: f.no_preauth.checked, scope: scopeOf(f) };
			if (f.expires.value !== (was.value.expires ? day(new Date(was.value.expires)) : "")) {
				body.expires = f.expires.value ? endOf(f.expires.value) : never;
			}
			return call("PATCH", at, { body, etag: tag });
		},
		conflict: async () => {
			const now = await call("GET", at);
			tag = now.etag;
			return changes(was.value, now.value, keyLabels);
		},
	});
	if (done) {
		said(t("key.changed"));
	}
}

async function removeKey(key) {
	const question = { title: t("key.remove.title"), text: t("key.remove.text", { name: plain(key.name) }), action: t("key.remove") };
	if (await sure(question)) { // whatever its settings are meanwhile
		await act(() => call("DELETE", path`/keys/${key.fingerprint}`), t("key.removed"));
	}
}

async function endSessions() {
	const question = { title: t("session.end_all.title"), text: t("session.end_all.text", { address: plain(primary()) }), action: t("session.end_all.action") };
	if (await sure(question)) {
		await act(() => call("DELETE", "/sessions", { query: { account: id } }), t("session.ended_all"));
	}
}
