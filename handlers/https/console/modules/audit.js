// The audit trail.
import { auditColumns } from "./cells.js";
import { find } from "./dom.js";
import { number } from "./format.js";
import { all, page, reload, slowly } from "./frame.js";
import { Table } from "./table.js";
import { t } from "./texts.js";

const filter = find("#filter");
const step = 50;
let shown = step;

const table = new Table(find("#audit"), (e) => e.id, auditColumns);

page({ load, every: 10, begin });

async function load(signal) {
	const f = filter.elements;
	const query = { account: f.account.value.trim(), actor: f.actor.value.trim(), action: f.action.value };
	if (f.since.value) {
		query.since = `${f.since.value}T00:00:00Z`;
	}
	if (f.until.value) {
		query.until = dayAfter(f.until.value);
	}
	const { items, total } = await all("/audit", query, shown, signal);
	table.show(items);
	find("#count").textContent = items.length < total ? t("count.some", { n: number(items.length), total: number(total) }) : t("count.entries", { n: total });
	find("#more").hidden = items.length >= total;
}

/** dayAfter is the begin of the day after one: the API wants what is before. */
const dayAfter = (date) => new Date(Date.parse(`${date}T00:00:00Z`) + 24 * 3600_000).toISOString();

function begin() {
	filter.addEventListener("submit", (e) => e.preventDefault());
	filter.addEventListener("input", slowly(() => {
		shown = step;
		reload();
	}));
	find("#more").addEventListener("click", () => {
		shown += 4 * step;
		reload();
	});
}
