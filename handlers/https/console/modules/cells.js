// Columns that several tables have.
import { call, path } from "./api.js";
import { sure } from "./dialog.js";
import { accountLink, badge, button, list, make, name, plain, time } from "./dom.js";
import { act } from "./frame.js";
import { size } from "./format.js";
import { may } from "./session.js";
import { known, t } from "./texts.js";

/** text is a column of texts that somebody else may have chosen. */
export const text = (field) => ({ value: (x) => x[field] ?? "", show: (x) => name(x[field] ?? "") });

/** when is a column of times; none is what a missing one is called. */
export const when = (field, none) => ({ value: (x) => x[field], show: (x) => time(x[field], none) });

/** protocolName is what people call an ALPN protocol. */
export const protocolName = (id) => known("protocol.", id || "none");

/** how says by what somebody has logged in. */
export const how = (mechanism, key) => (key ? make("span", { title: key }, `${plain(mechanism)} · ${t("key")}`) : plain(mechanism));

const identity = (c) => c.identity ?? {};

/** connectionColumns are those of live connections; with account, their accounts are among them. */
export function connectionColumns({ account }) {
	const columns = [
		{ value: (c) => c.id },
		{ value: (c) => c.protocol, show: (c) => protocolName(c.protocol) },
		account && {
			value: (c) => identity(c).account,
			show: (c) => (identity(c).account ? accountLink(identity(c).account, identity(c).address) : badge(t("conn.nobody"))),
		},
		{ value: (c) => identity(c).mechanism, show: (c) => how(identity(c).mechanism ?? "", identity(c).key) },
		text("remote"),
		account && text("server_name"),
		when("since"),
		{ number: true, value: (c) => `${size(c.bytes_in)} / ${size(c.bytes_out)}` },
		{ value: () => may("accounts"), show: (c) => (may("accounts") ? button(t("conn.end"), t("conn.of", { id: c.id }), () => endConnection(c), "danger") : "") },
	];
	return columns.filter(Boolean);
}

const endConnection = (c) => act(() => call("DELETE", path`/connections/${c.id}`), t("conn.ended", { id: c.id }));

/** endConnections asks, and ends all connections of an account. */
export async function endConnections(id, address) {
	const question = { title: t("conn.end_all.title"), text: t("conn.end_all.text", { address: plain(address) }), action: t("conn.end_all.action") };
	if (await sure(question)) {
		await act(() => call("DELETE", "/connections", { query: { account: id } }), (r) => t("conn.ended_all", { n: r.value.closed }));
	}
}

/** sessionColumns are those of web sessions. */
export function sessionColumns({ account }) {
	const columns = [
		account && { value: (s) => s.account, show: (s) => accountLink(s.account, s.address) },
		{ value: (s) => s.how, show: (s) => known("how.", s.how) },
		when("created"),
		when("last_seen"),
		when("expires"),
		text("remote"),
		text("user_agent"),
		{
			value: () => may("accounts"),
			show: (s) => (may("accounts") ? button(t("session.end"), s.address, () => endSession(s), "danger") : ""),
		},
	];
	return columns.filter(Boolean);
}

const endSession = (s) => act(() => call("DELETE", path`/sessions/${s.id}`), t("session.ended"));

/** auditColumns are those of the audit trail. */
export const auditColumns = [
	when("time"),
	{ value: (e) => e.actor + (e.from ?? ""), show: (e) => list(name(e.actor), e.from ? name(e.from, { class: "dim" }) : null) },
	{ value: (e) => e.action, show: (e) => name(e.action) },
	{ value: (e) => e.account ?? e.address, show: (e) => (e.account || e.address ? accountLink(e.account, e.address) : "–") },
	{ value: (e) => JSON.stringify([e.detail, e.key, e.before, e.after]), show: auditDetail },
	{ value: (e) => e.error, show: (e) => (e.error ? list(badge(t("audit.failed"), "bad"), name(e.error)) : badge(t("audit.done"), "good")) },
];

function auditDetail(e) {
	const parts = [];
	if (e.detail) {
		parts.push(make("div", {}, name(e.detail)));
	}
	if (e.key) {
		parts.push(make("div", { class: "mono dim" }, e.key));
	}
	if (e.before || e.after) {
		parts.push(make("details", {}, make("summary", {}, t("audit.changes")), make("dl", { class: "facts" }, ...differences(e.before, e.after))));
	}
	return make("div", {}, ...parts);
}

function differences(before, after) {
	const fields = new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})]);
	const show = (v) => (v === undefined ? "–" : plain(typeof v === "string" ? v : JSON.stringify(v)));
	return [...fields].flatMap((f) => [make("dt", {}, plain(f)),
		make("dd", {}, make("bdi", {}, show(before?.[f])), " → ", make("bdi", {}, show(after?.[f])))]);
}
