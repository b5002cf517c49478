// All accounts, and adding one.
import { call } from "./api.js";
import { fill, tell } from "./dialog.js";
import { accountLink, badge, find, list, make, name, plain } from "./dom.js";
import { all, page, reload, said, slowly } from "./frame.js";
import { number } from "./format.js";
import { Table } from "./table.js";
import { when } from "./cells.js";
import { t } from "./texts.js";

const filter = find("#filter");
const step = 100;
let shown = step;

const table = new Table(find("#accounts"), (a) => a.id, [
	{ value: (a) => a.addresses[0], show: (a) => accountLink(a.id, a.addresses[0]) },
	{ value: (a) => a.addresses.slice(1).join(" "), show: (a) => others(a.addresses.slice(1)) },
	{ value: (a) => a.disabled, show: (a) => (a.disabled ? badge(t("account.disabled"), "bad") : badge(t("account.enabled"), "good")) },
	{ value: (a) => a.home.backend, show: (a) => name(a.home.backend) },
	{ value: (a) => (a.home.keeps_passwords ? t("account.password.elsewhere") : a.has_password ? t("yes") : t("no")) },
	when("created"),
]);

function others(addresses) {
	const first = addresses.slice(0, 2).map((a) => name(a));
	return addresses.length > 2 ? list(...first, t("account.more", { n: addresses.length - 2 })) : list(...first);
}

page({ load, every: 15, begin });

async function load(signal) {
	const { items, total } = await all("/accounts", { text: filter.elements.text.value.trim(), disabled: filter.elements.state.value }, shown, signal);
	table.show(items);
	find("#count").textContent = items.length < total ? t("count.some", { n: number(items.length), total: number(total) }) : t("count.accounts", { n: total });
	find("#more").hidden = items.length >= total;
}

function begin() {
	const kept = history.state?.filter; // when somebody comes back; an address is not for the URL
	if (kept) {
		filter.elements.text.value = kept.text;
		filter.elements.state.value = kept.state;
	}
	filter.addEventListener("submit", (e) => e.preventDefault());
	filter.addEventListener("input", slowly(() => {
		shown = step;
		history.replaceState({ filter: { text: filter.elements.text.value, state: filter.elements.state.value } }, "");
		reload();
	}));
	find("#more").addEventListener("click", () => {
		shown += 5 * step;
		reload();
	});
	find("#add").addEventListener("click", add);
}

async function add() {
	const created = await fill(find("#add-dialog"), {
		begin: (form) => {
			const kind = form.elements.password_kind;
			const chosen = find("#chosen");
			const look = () => {
				chosen.hidden = kind.value !== "chosen";
				form.elements.chosen.required = kind.value === "chosen";
			};
			form.onchange = look;
			look();
		},
		submit: async (form) => {
			const f = form.elements;
			const password = { generate: { generate: true }, chosen: { chosen: f.chosen.value }, none: {} }[f.password_kind.value];
			const body = { address: f.address.value.trim(), password };
			if (f.backend.value.trim()) {
				body.backend = f.backend.value.trim();
			}
			return (await call("POST", "/accounts", { body })).value;
		},
	});
	if (!created) {
		return;
	}
	const address = plain(created.addresses[0]);
	if (created.password) {
		await tell({ title: t("account.added", { address }), text: t("account.password.text"), secret: created.password });
	}
	said(t("account.added", { address }));
	find("#notices").firstElementChild?.append(" ", make("a", { href: `/admin/accounts/${encodeURIComponent(created.id)}` }, t("account.go")));
}
