// What all pages have in common: signing in, asking again and again, messages, and
// what happens when something fails.
import { call, get, Problem } from "./api.js";
import { find, make, plain, replace } from "./dom.js";
import { ago, clock } from "./format.js";
import { Poll } from "./poll.js";
import { iAm, keepToken, known, may, token } from "./session.js";
import { t } from "./texts.js";

let poll = null;
let began = () => {};
let wanted = "read"; // scope
let opening = 0; // timer

/**
 * page runs a page: load asks for what it shows, and gets a signal; it is called every
 * so many seconds. begin is called once, when somebody has signed in. needs is the scope
 * that all of the page wants.
 */
export function page({ load, every, begin = () => {}, needs = "read" }) {
	began = begin;
	wanted = needs;
	poll = new Poll(async (signal) => {
		await load(signal);
		trouble(null);
		find("#asked").textContent = t("asked", { time: clock(new Date()) });
	}, every, failed);
	find("#sign-in form").addEventListener("submit", signIn);
	find("#again").addEventListener("click", () => (known() ? poll.now() : open()));
	setInterval(refreshTimes, 20_000);
	open();
}

/** reload asks anew for what the page shows. */
export const reload = () => poll.now();

/**
 * enter finds out who the visitor is, and shows the page. It throws a Problem when it
 * cannot; 401 when the visitor has to sign in first.
 */
async function enter() {
	const answer = await get("/whoami");
	iAm(answer);
	const who = find(".who .name");
	who.textContent = plain(answer.name, 60);
	who.title = plain(answer.name);
	for (const e of document.querySelectorAll("[data-needs]")) {
		e.hidden = !may(e.dataset.needs);
	}
	showSignOut();
	trouble(null);
	find("#waiting").hidden = true;
	find("#sign-in").hidden = true;
	find("#too-little").hidden = may(wanted);
	if (may(wanted)) {
		find("#content").hidden = false;
		began();
		began = () => {};
		poll.start();
	}
}

/** open enters when the page is opened, and tries again as long as the gateway does not answer. */
async function open(wait = 3) {
	clearTimeout(opening);
	try {
		await enter();
	} catch (e) {
		if (e.status === 401) {
			refused();
			return;
		}
		trouble(e, wait);
		opening = setTimeout(() => open(Math.min(2 * wait, 60)), wait * 1000);
	}
}

/** refused shows the form to sign in, and hides all else. */
function refused() {
	poll.stop();
	iAm(null);
	const expired = token() !== "";
	keepToken("");
	document.querySelectorAll("dialog[open]").forEach((d) => d.close());
	find("#waiting").hidden = true;
	find("#content").hidden = true;
	find("#sign-in").hidden = false;
	find(".who .name").textContent = "";
	document.querySelector("#sign-out")?.remove();
	find("#sign-in .wrong").textContent = expired ? t("signin.refused") : "";
	trouble(null);
	find("#token").focus();
}

async function signIn(e) {
	e.preventDefault();
	const field = find("#token");
	const wrong = find("#sign-in .wrong");
	const text = field.value.trim();
	if (!/^[\x21-\x7e]+$/.test(text)) { // what a header can hold
		wrong.textContent = t("signin.none");
		field.focus();
		return;
	}
	wrong.textContent = "";
	keepToken(text);
	try {
		await enter();
		field.value = "";
		find("h1").focus();
	} catch (problem) {
		keepToken("");
		wrong.textContent = problem.status === 401 ? t("signin.refused") : problem.words ?? problem.message;
		field.focus();
	}
}

function showSignOut() {
	if (!token() || document.querySelector("#sign-out")) {
		return;
	}
	find(".who").append(make("button", { id: "sign-out", type: "button", class: "quiet", click: () => {
		keepToken("");
		location.assign("/admin/"); // a page that knows nothing any more
	} }, t("signout")));
}

/** failed says that what the page shows is not up to date, and until when. */
function failed(e, seconds) {
	if (e.status === 401) {
		refused();
		return;
	}
	if (!(e instanceof Problem)) {
		console.error(e);
	}
	trouble(e, seconds);
}

function trouble(e, seconds) {
	const banner = find("#trouble");
	banner.hidden = e === null;
	if (e) {
		const text = e.words ?? e.message;
		find("#trouble-text").textContent = seconds ? `${text} ${t("retry", { n: seconds })}` : text;
	}
}

/** notice shows a message, and has it read out. kind is "done" or "error". */
export function notice(kind, text) {
	replace(find(kind === "error" ? "#alerts" : "#notices"), make("p", { class: `notice ${kind}` }, text));
	replace(find(kind === "error" ? "#notices" : "#alerts"));
}

/**
 * act carries out a change and says that it is done, or why not. done is the message:
 * a text, or a function of what change has returned. The page asks anew afterwards. act
 * reports whether it was done.
 */
export async function act(change, done) {
	try {
		const result = await change();
		const text = typeof done === "function" ? done(result) : done;
		if (text) {
			notice("done", text);
		}
		return true;
	} catch (e) {
		if (e.status === 401) {
			refused();
			return false;
		}
		if (!(e instanceof Problem)) {
			console.error(e);
		}
		notice("error", e.words ?? e.message);
		return false;
	} finally {
		poll.again();
	}
}

/** said shows that something is done, and asks anew for what the page shows. */
export function said(text) {
	notice("done", text);
	poll.now();
}

/** leave goes to another page, as what this one is about is no more. */
export function leave(path) {
	poll.stop();
	location.assign(path);
}

/** all gets a list that has at most so many items, in several pages; total is how many there are. */
export async function all(where, query, most, signal) {
	const items = [];
	let total = 0;
	for (let cursor = ""; items.length < most;) {
		const page = (await call("GET", where, { query: { ...query, limit: Math.min(most - items.length, 1000), cursor }, signal })).value;
		items.push(...page.items);
		total = page.total;
		cursor = page.next ?? "";
		if (!cursor) {
			break;
		}
	}
	return { items, total };
}

/** slowly returns a function that calls another when it has not been called for a moment. */
export function slowly(f) {
	let timer = 0;
	return () => {
		clearTimeout(timer);
		timer = setTimeout(f, 250);
	};
}

/** refreshTimes writes anew how long ago things were. */
function refreshTimes() {
	for (const e of document.querySelectorAll("time[datetime][title]")) {
		e.textContent = ago(new Date(e.dateTime));
	}
}
