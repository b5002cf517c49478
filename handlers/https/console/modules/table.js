// Tables whose rows follow a list.
import { make, replace } from "./dom.js";

/**
 * Table shows a list in the body of a <table>. What has not changed stays as it is,
 * so that neither the focus nor a selection is lost when the list is asked for anew.
 *
 * Columns are objects: value(item) is what the cell depends on, show(item) makes its
 * content; without show it is the value itself. The first one heads the row.
 */
export class Table {
	#rows = new Map(); // by key: {row, values}

	constructor(table, key, columns) {
		this.table = table;
		this.body = table.tBodies[0];
		this.key = key;
		this.columns = columns;
		this.empty = table.parentElement.nextElementSibling;
		// On a phone a row is a block with the columns' names in it (style.css). What is
		// laid out so is a table to screen readers only if it says that it is one.
		this.heads = [...table.tHead.rows[0].cells].map((c) => (c.firstElementChild ? "" : c.textContent));
		for (const [selector, role] of [[":scope", "table"], ["thead, tbody", "rowgroup"], ["thead tr", "row"], ["thead th", "columnheader"]]) {
			(selector === ":scope" ? [table] : table.querySelectorAll(selector)).forEach((e) => e.setAttribute("role", role));
		}
		table.tabIndex = -1; // for the focus, when a row goes away that has it
	}

	/** show shows a list in place of the one before. */
	show(items) {
		const rows = new Map();
		let before = null;
		const next = (row) => (row ? row.nextElementSibling : this.body.firstElementChild);
		const gone = new Set(this.#rows.keys());
		for (const item of items) {
			gone.delete(this.key(item));
		}
		for (const key of gone) {
			this.#remove(this.#rows.get(key).row);
		}
		for (const item of items) {
			const key = this.key(item);
			const entry = this.#rows.get(key) ?? { row: make("tr", { role: "row" }), values: [] };
			this.#fill(entry, item);
			if (next(before) !== entry.row) {
				this.body.insertBefore(entry.row, next(before));
			}
			before = entry.row;
			rows.set(key, entry);
		}
		this.#rows = rows;
		this.table.parentElement.hidden = items.length === 0;
		this.empty.hidden = items.length > 0;
	}

	#fill(entry, item) {
		this.columns.forEach((column, i) => {
			const value = String(column.value(item) ?? "");
			if (entry.values[i] === value) {
				return;
			}
			entry.values[i] = value;
			const cell = entry.row.cells[i] ?? entry.row.appendChild(this.#cell(column, i));
			const focused = cell.contains(document.activeElement);
			replace(cell, column.show ? column.show(item) : value);
			if (focused) {
				cell.querySelector("button, a")?.focus();
			}
		});
	}

	#cell(column, i) {
		const head = this.heads[i];
		return i === 0
			? make("th", { scope: "row", role: "rowheader", "data-head": head })
			: make("td", { role: "cell", "data-head": head, class: column.number ? "number" : undefined });
	}

	/** #remove takes a row away. The focus goes to the next one's, not to the top of the page. */
	#remove(row) {
		if (row.contains(document.activeElement)) {
			const near = row.nextElementSibling ?? row.previousElementSibling;
			(near?.querySelector("button") ?? this.table).focus();
		}
		row.remove();
	}
}
