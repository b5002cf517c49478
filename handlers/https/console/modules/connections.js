// The live connections of all accounts.
import { connectionColumns, protocolName } from "./cells.js";
import { find, make } from "./dom.js";
import { number } from "./format.js";
import { all, page, reload, slowly } from "./frame.js";
import { Table } from "./table.js";
import { t } from "./texts.js";

const most = 1000; // rows
const filter = find("#filter");
const table = new Table(find("#connections"), (c) => c.id, connectionColumns({ account: true }));

for (const id of ["imap", "smtp", "h2", "http/1.1"]) {
	filter.elements.protocol.append(make("option", { value: id }, protocolName(id)));
}

page({ load, every: 3, begin });

async function load(signal) {
	const { items, total } = await all("/connections", { protocol: filter.elements.protocol.value }, most, signal);
	const text = filter.elements.text.value.trim().toLowerCase();
	const hit = (c) => [c.identity?.address, c.identity?.account, c.identity?.key, c.remote, c.server_name].some((s) => s?.toLowerCase().includes(text));
	const shown = text ? items.filter(hit) : items;
	table.show(shown);
	find("#count").textContent = items.length < total
		? t("count.connections.some", { n: number(shown.length), of: number(items.length), total: number(total) })
		: t("count.connections", { n: shown.length });
}

function begin() {
	filter.addEventListener("submit", (e) => e.preventDefault());
	filter.addEventListener("input", slowly(reload));
}
