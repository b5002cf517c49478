// Making elements. Texts go in as text: nothing here, or anywhere in these modules,
// reads HTML.
import { ago, moment } from "./format.js";
import { t } from "./texts.js";

/** find returns the element that a selector finds, which must be there. */
export function find(selector, within = document) {
	const e = within.querySelector(selector);
	if (!e) {
		throw new Error(`the page has no ${selector}`);
	}
	return e;
}

/**
 * make makes an element. Attributes that are false or undefined are left out; click is
 * a handler. Children are nodes and texts; those that are null are left out.
 */
export function make(name, attributes = {}, ...children) {
	const e = document.createElement(name);
	for (const [key, value] of Object.entries(attributes)) {
		if (key === "click") {
			e.addEventListener("click", value);
		} else if (value === true) {
			e.setAttribute(key, "");
		} else if (value !== false && value !== undefined && value !== null) {
			e.setAttribute(key, value);
		}
	}
	e.append(...children.filter((c) => c !== null && c !== undefined));
	return e;
}

// What can turn the order of a line around, hide in it or break it.
const treacherous = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;
const longest = 160;

/** plain makes what somebody chose fit to be read: no control characters, and not endless. */
export function plain(text, most = longest) {
	const shown = [...String(text).slice(0, 2 * most + 2)];
	const cut = shown.length > most ? `${shown.slice(0, most).join("")}…` : shown.join("");
	return cut.replace(treacherous, "\ufffd");
}

/** name shows what somebody chose, apart from the text around it: its direction is its own. */
export const name = (text, attributes = {}) => (text === "" ? "" : make("bdi", attributes, plain(text)));

/** time shows how long ago a time of the API's was; its title tells it exactly. None is "never". */
export function time(text, none = t("never")) {
	if (!text) {
		return document.createTextNode(none);
	}
	const at = new Date(text);
	return make("time", { datetime: at.toISOString(), title: moment(at) }, ago(at));
}

/** badge shows a state; kind is "good", "bad" or none. */
export const badge = (text, kind = "") => make("span", { class: `badge ${kind}` }, text);

/** button makes one for a row of a table; subject is what it is for, said to those who do not see the row. */
export function button(text, subject, click, kind = "quiet") {
	const of = make("span", { class: "hidden-visually" }, " ", plain(subject, 60));
	return make("button", { type: "button", class: `small ${kind}`, click }, text, of);
}

/** list puts nodes into an element of their own, with room between them; none are none. */
export const list = (...nodes) => (nodes.length ? make("span", { class: "actions" }, ...nodes) : "");

/** accountLink leads to the page of an account; address is what it is called. */
export function accountLink(id, address) {
	if (!id) {
		return address ? name(address) : document.createTextNode(t("nobody"));
	}
	return make("a", { href: `/admin/accounts/${encodeURIComponent(id)}` }, name(address || id));
}

/** replace gives an element other children. */
export const replace = (e, ...children) => e.replaceChildren(...children.filter((c) => c !== null && c !== undefined));
