// What the gateway does now: numbers, charts, and what needs somebody to look at it.
import { get } from "./api.js";
import { protocolName } from "./cells.js";
import { Chart } from "./chart.js";
import { find, make, name, plain, replace, time } from "./dom.js";
import { number, size } from "./format.js";
import { all, page } from "./frame.js";
import { append, rates, recall } from "./samples.js";
import { known, t } from "./texts.js";

const every = 3;
const span = 600; // seconds that the charts show
const soon = 14 * 24 * 3600_000; // until a certificate ends

const chart = (id) => new Chart(find(id), span);
const connections = chart("#chart-connections");
const logins = chart("#chart-logins");
const failures = chart("#chart-failures");
const handshakes = chart("#chart-handshakes");

let rest = { next: 0 }; // what changes slowly, and when to ask again

page({ load, every });

async function load(signal) {
	const [status, activity] = await Promise.all([get("/status", {}, signal), get("/activity", {}, signal)]);
	if (rest.next < Date.now()) {
		const [backends, certificates, blocks] = await Promise.all(["/backends", "/certificates", "/blocks"].map((p) => all(p, {}, 1000, signal)));
		rest = { backends: backends.items, certificates: certificates.items, blocks, next: Date.now() + 30_000 };
	}
	draw(append(activity));
	facts(status);
	attention();
}

draw(recall());

function draw(samples) {
	const labels = (group, label) => [...new Set(samples.flatMap((s) => Object.keys(s[group])))].sort().map((k) => [k, label(k)]);
	connections.show(samples.map((s) => ({ at: s.at, values: s.connections })), labels("connections", protocolName));
	logins.show(rates(samples, "logins"), labels("logins", plain));
	failures.show(rates(samples, "refusals"), labels("refusals", (k) => known("failure.", k)));
	handshakes.show(rates(samples, "handshakes"), labels("handshakes", (k) => known("handshake.", k)));
}

function facts(status) {
	const fact = (id, ...content) => replace(find(id), ...content);
	fact("#fact-state", known("state.", status.state));
	fact("#fact-version", plain(status.version));
	fact("#fact-started", time(status.started));
	fact("#fact-connections", t("overview.connections", { n: status.connections.total, users: number(status.connections.logged_in) }));
	fact("#fact-backends", status.backends.total ? t("overview.backends", { up: status.backends.up, total: status.backends.total }) : t("backend.embedded"));
	fact("#fact-blocks", number(rest.blocks.total));
	const moved = recall().at(-1)?.bytes;
	fact("#fact-bytes", moved ? t("overview.bytes", { in: size(moved.in), out: size(moved.out) }) : "–");
	fact("#fact-listeners", ...(status.listeners ?? []).flatMap((l) => [make("span", {}, `${plain(l.name)} `, make("code", {}, plain(l.address))), " "]));
}

/** attention lists what somebody should look at. */
function attention() {
	const link = (href, kind, ...content) => make("li", { class: `notice ${kind}` }, ...content, " ", make("a", { href }, t("overview.look")));
	const items = [];
	for (const b of rest.backends.filter((b) => b.state !== "up")) {
		items.push(link("/admin/backends", "error", t("overview.down"), " ", name([b.name, b.service, b.address].filter(Boolean).join(" "))));
	}
	for (const c of rest.certificates) {
		if (c.error) {
			items.push(link("/admin/certificates", "warning", t("overview.certificate"), " ", name(c.name), ": ", name(c.error)));
		} else if (c.not_after && new Date(c.not_after) - Date.now() < soon) {
			items.push(link("/admin/certificates", "warning", t("overview.expires"), " ", name(c.name), " ", time(c.not_after)));
		}
	}
	if (rest.blocks.total > 0) {
		items.push(link("/admin/blocks", "info", t("overview.blocked", { n: rest.blocks.total })));
	}
	const box = find("#attention");
	const text = items.map((i) => i.textContent).join("\n");
	if (box.dataset.shown !== text) { // else it would be read out again and again
		box.dataset.shown = text;
		replace(box, ...items);
	}
}
