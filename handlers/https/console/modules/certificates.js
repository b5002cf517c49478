// Server certificates: what there is, when it ends, getting new ones.
import { call, path } from "./api.js";
import { text, when } from "./cells.js";
import { badge, button, find, list, make, name, plain, replace, time } from "./dom.js";
import { act, all, notice, page } from "./frame.js";
import { Table } from "./table.js";
import { may } from "./session.js";
import { known, t } from "./texts.js";

const patience = 300_000; // a CA may take its time
const soon = 14 * 24 * 3600_000;

const table = new Table(find("#certificates"), (c) => [c.name, c.key_type, c.file].join(" "), [
	{ value: (c) => c.name, show: (c) => name(c.name) },
	{ value: (c) => known("source.", c.source) },
	{ value: (c) => [c.issuer, c.key_type, c.file].join(" "), show: (c) => make("div", {}, name(c.issuer || "–"), make("div", { class: "dim" }, plain(c.key_type ?? ""), " ", name(c.file ?? ""))) },
	{ value: (c) => c.not_after, show: expiry },
	when("next_renewal", "–"),
	text("error"),
	{
		value: (c) => `${may("all")} ${c.source}`,
		show: (c) => (may("all") ? list(c.source === "acme" ? button(t("cert.renew"), c.name, (e) => renew(c, e.currentTarget)) : null, button(t("cert.check"), c.name, (e) => check(c, e.currentTarget))) : ""),
	},
]);

page({ load: async (signal) => table.show((await all("/certificates", {}, 1000, signal)).items), every: 15 });

function expiry(c) {
	if (!c.not_after) {
		return badge(t("cert.none"), "bad");
	}
	const left = new Date(c.not_after) - Date.now();
	const state = left < 0 ? badge(t("cert.expired"), "bad") : left < soon ? badge(t("cert.soon"), "bad") : null;
	return list(time(c.not_after), state);
}

/** waiting has a button say that it is at work. */
async function waiting(of, work) {
	if (of.ariaBusy === "true") {
		return;
	}
	of.ariaBusy = "true";
	notice("info", t("cert.waiting"));
	try {
		await work();
	} finally {
		of.ariaBusy = null;
		document.querySelector("#notices .info")?.remove();
	}
}

const renew = (c, of) => waiting(of, () => act(() => call("POST", path`/certificates/${c.name}/renewal`, { patience }), t("cert.renewed", { name: plain(c.name) })));

const check = (c, of) => waiting(of, () => act(async () => {
	const { value } = await call("GET", path`/certificates/${c.name}/check`, { patience });
	const problems = value.problems ?? [];
	replace(find("#check"), make("h2", { tabindex: "-1" }, t("cert.checked", { name: plain(c.name) })),
		make("dl", { class: "facts" },
			...pair(t("label.address"), value.address), ...pair(t("label.issuer"), value.issuer),
			make("dt", {}, t("label.expires")), make("dd", {}, time(value.not_after, "–"))),
		problems.length ? make("ul", {}, ...problems.map((p) => make("li", {}, name(p, { class: "bad" })))) : make("p", {}, badge(t("cert.well"), "good")));
	find("#check").hidden = false;
	find("#check h2").focus();
}, ""));

const pair = (label, value) => [make("dt", {}, label), make("dd", {}, name(value || "–"))];
