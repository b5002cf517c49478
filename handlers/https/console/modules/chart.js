// Line charts, drawn as SVG.
import { find, make, replace } from "./dom.js";
import { number } from "./format.js";
import { t } from "./texts.js";

const svgSpace = "http://www.w3.org/2000/svg";

function svg(name, attributes, ...children) {
	const e = document.createElementNS(svgSpace, name);
	for (const [key, value] of Object.entries(attributes)) {
		e.setAttribute(key, value);
	}
	e.append(...children);
	return e;
}

const margin = { top: 10, right: 8, bottom: 22, left: 44 };
const height = 190;

/**
 * Chart draws lines over time into a <figure> that has a figcaption. Its legend says the
 * present values in words, so nobody needs to see the lines, or to tell colours apart: the
 * lines are dashed differently too.
 */
export class Chart {
	#points = [];
	#lines = [];

	/** span is how many seconds it shows. */
	constructor(figure, span) {
		this.figure = figure;
		this.span = span;
		this.title = find("figcaption", figure).textContent;
		this.picture = svg("svg", { class: "chart", role: "img", focusable: "false" });
		this.legend = make("ul", { class: "legend" });
		figure.append(this.picture, this.legend);
		new ResizeObserver(() => this.#draw()).observe(figure);
	}

	/**
	 * show draws points, {at: milliseconds, values: {line: number}}, oldest first. lines
	 * are [name, label], in the order in which they stand in the legend. A point without
	 * values is a gap.
	 */
	show(points, lines) {
		this.#points = points;
		this.#lines = lines;
		this.#draw();
		this.#tell();
	}

	#tell() {
		const last = this.#points.at(-1)?.values;
		replace(this.legend, ...this.#lines.map(([name, label], i) => make("li", {},
			svg("svg", { class: "swatch", viewBox: "0 0 28 6", "aria-hidden": "true" }, svg("path", { class: `line line-${i % 6}`, d: "M0 3H28" })),
			make("span", {}, label), " ", make("b", {}, last ? number(last[name] ?? 0) : "–"))));
		const most = Math.max(0, ...this.#points.flatMap((p) => (p.values ? Object.values(p.values) : [])));
		this.picture.setAttribute("aria-label", t("chart.about", { title: this.title, most: number(most) }));
	}

	#draw() {
		const width = Math.max(this.figure.clientWidth, 200);
		const end = this.#points.at(-1)?.at ?? Date.now();
		const begin = end - this.span * 1000;
		const shown = this.#points.filter((p) => p.at >= begin);
		const values = shown.flatMap((p) => (p.values ? Object.values(p.values) : []));
		const step = stepFor(Math.max(1, ...values));
		const top = step * Math.max(1, Math.ceil(Math.max(1, ...values) / step));
		const x = (at) => margin.left + ((at - begin) / (end - begin)) * (width - margin.left - margin.right);
		const y = (v) => height - margin.bottom - (v / top) * (height - margin.top - margin.bottom);
		this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
		this.picture.setAttribute("height", height);
		const grid = [];
		for (let v = 0; v <= top; v += step) {
			grid.push(svg("path", { class: "grid", d: `M${margin.left} ${round(y(v))}H${width - margin.right}` }),
				svg("text", { x: margin.left - 6, y: round(y(v)) + 4, "text-anchor": "end" }, number(v)));
		}
		grid.push(svg("text", { x: margin.left, y: height - 4 }, t("chart.minutes", { n: Math.round(this.span / 60) })),
			svg("text", { x: width - margin.right, y: height - 4, "text-anchor": "end" }, t("chart.now")));
		this.picture.replaceChildren(...grid, ...this.#lines.map(([name], i) =>
			svg("path", { class: `line line-${i % 6}`, d: trace(shown, (p) => x(p.at), (p) => (p.values ? y(p.values[name] ?? 0) : null)) })));
	}
}

/** trace is the path through points; where y is null it is interrupted. */
function trace(points, x, y) {
	let d = "";
	let pen = "M";
	for (const p of points) {
		const at = y(p);
		if (at === null) {
			pen = "M";
			continue;
		}
		d += `${pen}${round(x(p))} ${round(at)}`;
		pen = "L";
	}
	return d;
}

const round = (n) => Math.round(n * 10) / 10;

/** stepFor is a round number of which three or four make up most. */
function stepFor(most) {
	const power = 10 ** Math.floor(Math.log10(most / 3));
	const step = [1, 2, 5, 10].find((s) => s * power * 4 >= most) * power;
	return Math.max(step, 1);
}
