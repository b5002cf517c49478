// The texts that scripts show, in the language of the page.
import catalogue from "./catalogue.js";

export const language = catalogue.language;
const plural = new Intl.PluralRules(language);

/** t returns the text with a key; {name} in it is replaced by values.name, and n selects the plural form. */
export function t(key, values = {}) {
	let text = catalogue.texts[key];
	if (text === undefined) {
		throw new Error(`there is no text ${key}`);
	}
	if (typeof text !== "string") {
		text = text[plural.select(values.n)] ?? text.other;
	}
	return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** known returns the text with a key if there is one, for words that the API may add to; else the word. */
export function known(prefix, word) {
	return catalogue.texts[prefix + word] === undefined ? word : t(prefix + word);
}
