// Dialogs: questions, secrets that are shown once, and forms.
import { find, make, plain, replace } from "./dom.js";
import { t } from "./texts.js";

/** opened shows a dialog and returns a promise of its returnValue when it is closed. */
function opened(dialog) {
	dialog.returnValue = "";
	dialog.showModal();
	return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue), { once: true }));
}

/**
 * sure asks whether to do something that cannot be undone easily. With typed, that
 * text has to be typed first.
 */
export async function sure({ title, text, action, typed = "" }) {
	const dialog = find("#sure");
	const yes = find("[value=yes]", dialog);
	const field = find("#sure-typed");
	find("h2", dialog).textContent = title;
	find("p", dialog).textContent = text;
	yes.textContent = action;
	find("#sure-field").hidden = !typed;
	find("label", dialog).textContent = typed ? t("sure.type", { text: plain(typed) }) : "";
	field.value = "";
	field.oninput = () => (yes.disabled = typed !== "" && field.value.trim() !== typed);
	field.oninput();
	const form = find("form", dialog);
	form.onsubmit = (e) => {
		if (e.submitter === null || yes.disabled && e.submitter === yes) {
			e.preventDefault();
		}
	};
	return (await opened(dialog)) === "yes";
}

/** tell shows something that the API tells once, such as a password. It is gone when the dialog is. */
export async function tell({ title, text, secret }) {
	const dialog = find("#tell");
	const shown = find("#tell-secret");
	const copied = find("#tell-copied");
	find("h2", dialog).textContent = title;
	find("p", dialog).textContent = text;
	shown.value = secret;
	copied.textContent = "";
	find("#tell-copy").onclick = async () => {
		try {
			await navigator.clipboard.writeText(secret);
			copied.textContent = t("tell.copied");
		} catch {
			shown.select();
			copied.textContent = t("tell.select");
		}
	};
	dialog.oncancel = (e) => e.preventDefault(); // Escape is pressed too easily
	await opened(dialog);
	shown.value = "";
}

/**
 * fill opens the form in a dialog and has submit carry it out; submit gets the form and
 * may throw a Problem, which is shown in the dialog. begin, if there is one, is called
 * with the form before it opens. conflict, if there is one, is called when somebody has
 * made a change in the meantime (412): it returns what that was, as [what, before, now],
 * and has submit overwrite it the next time. fill returns what submit has returned, or
 * undefined when the dialog was left.
 */
export async function fill(dialog, { begin, submit, conflict }) {
	const form = find("form", dialog);
	const wrong = find(".wrong", dialog);
	const meanwhile = find(".meanwhile", dialog);
	form.reset();
	wrong.textContent = "";
	meanwhile.hidden = true;
	begin?.(form);
	let result;
	let busy = false;
	form.onsubmit = async (e) => {
		e.preventDefault();
		if (e.submitter?.value === "cancel") {
			dialog.close();
			return;
		}
		if (busy) {
			return;
		}
		busy = true;
		form.setAttribute("aria-busy", "true");
		wrong.textContent = "";
		try {
			result = await submit(form);
			dialog.close("done");
		} catch (problem) {
			wrong.textContent = problem.words ?? problem.message;
			if (problem.status === 412 && conflict) {
				await explain(meanwhile, wrong, conflict);
			}
			if (problem.status === 401) {
				dialog.close();
			}
		} finally {
			busy = false;
			form.removeAttribute("aria-busy");
		}
	};
	await opened(dialog);
	form.reset(); // it may hold a password
	return result;
}

/** explain shows what has changed in the meantime. */
async function explain(meanwhile, wrong, conflict) {
	try {
		const changes = await conflict();
		wrong.textContent = t("conflict.again");
		replace(find("tbody", meanwhile), ...changes.map(([what, before, now]) => make("tr", {},
			make("th", { scope: "row" }, what), make("td", {}, make("bdi", {}, plain(before))), make("td", {}, make("bdi", {}, plain(now))))));
		meanwhile.hidden = changes.length === 0;
	} catch (problem) {
		wrong.textContent = problem.words ?? problem.message;
	}
}

/** changes compares two states of something and returns what differs, as [what, before, now]. */
export function changes(before, now, labels) {
	return Object.entries(labels)
		.map(([field, [label, show]]) => [label, show(before[field]), show(now[field])])
		.filter(([, was, is]) => was !== is);
}
