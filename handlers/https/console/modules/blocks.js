// The sources whose passwords are refused.
import { call, path } from "./api.js";
import { when } from "./cells.js";
import { button, find, name, plain } from "./dom.js";
import { act, all, page } from "./frame.js";
import { number } from "./format.js";
import { may } from "./session.js";
import { Table } from "./table.js";
import { t } from "./texts.js";

const table = new Table(find("#blocks"), (b) => b.source, [
	{ value: (b) => b.source, show: (b) => name(b.source) },
	when("until"),
	{ number: true, value: (b) => number(b.count) },
	{
		value: () => may("accounts"),
		show: (b) => (may("accounts") ? button(t("block.remove"), b.source, () => remove(b.source)) : ""),
	},
]);

const remove = (source) => act(() => call("DELETE", path`/blocks/${source}`), t("block.removed", { source: plain(source) }));

page({ load: async (signal) => table.show((await all("/blocks", {}, 1000, signal)).items), every: 5 });
