// The servers behind.
import { text, when } from "./cells.js";
import { badge, find } from "./dom.js";
import { all, page } from "./frame.js";
import { number } from "./format.js";
import { Table } from "./table.js";
import { known, t } from "./texts.js";

const table = new Table(find("#backends"), (b) => [b.name, b.service, b.address].join(" "), [
	text("name"),
	{ value: (b) => (b.service ? known("protocol.", b.service) : t("backend.embedded")) },
	text("address"),
	{ value: (b) => b.state, show: (b) => badge(known("backend.", b.state), b.state === "up" ? "good" : "bad") },
	when("since", "–"),
	{ number: true, value: (b) => (b.service ? number(b.connections) : "–") },
	text("error"),
]);

page({ load: async (signal) => table.show((await all("/backends", {}, 1000, signal)).items), every: 5 });
