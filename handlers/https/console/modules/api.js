// Asking the API. Who asks is known by the client certificate, which the browser
// shows by itself, or by the token of session.js.
import { token } from "./session.js";
import { t, known } from "./texts.js";

const root = "/admin/api/v1";

/** Problem is what the API refuses (RFC 9457), or what kept it from answering: status 0. */
export class Problem extends Error {
	constructor(status, { code = "", detail = "", hint = "" } = {}, retryAfter = 0) {
		super(detail || t("problem.status", { status }));
		this.status = status;
		this.code = code;
		this.hint = hint;
		/** retryAfter is how many seconds to wait, if the server has said so. */
		this.retryAfter = retryAfter;
	}

	/** words says in plain words what went wrong. */
	get words() {
		const about = known("problem.", this.code);
		const words = about === this.code ? this.message : about;
		return this.status >= 500 && this.code !== "ca_failed" && this.hint ? `${words} (${this.hint})` : words;
	}
}

/** path makes the path of a template, with every value as one segment. */
export const path = (parts, ...values) => String.raw({ raw: parts }, ...values.map((v) => encodeURIComponent(v)));

const patience = 30_000;

/**
 * call asks for an operation and returns {value, etag}. Options: query (an object;
 * empty values are left out), body (sent as JSON), etag (what the change is based on),
 * signal, and patience in milliseconds.
 */
export async function call(method, where, options = {}) {
	const query = new URLSearchParams(Object.entries(options.query ?? {}).filter(([, v]) => v !== "" && v !== undefined));
	const headers = new Headers({ Accept: "application/json" });
	if (token()) {
		headers.set("Authorization", `Bearer ${token()}`);
	}
	if (options.etag) {
		headers.set("If-Match", options.etag);
	}
	const init = { method, headers, cache: "no-store", redirect: "error", mode: "same-origin" };
	if (options.body !== undefined) {
		headers.set("Content-Type", "application/json");
		init.body = JSON.stringify(options.body);
	}
	init.signal = AbortSignal.any([AbortSignal.timeout(options.patience ?? patience), ...(options.signal ? [options.signal] : [])]);
	const suffix = query.size ? `?${query}` : "";
	try {
		return await read(await fetch(root + where + suffix, init));
	} catch (e) {
		if (e instanceof Problem || options.signal?.aborted) {
			throw e;
		}
		throw new Problem(0, { code: e.name === "TimeoutError" ? "no_answer" : "unreachable" });
	}
}

async function read(response) {
	const type = response.headers.get("Content-Type") ?? "";
	const value = /[/+]json/.test(type) ? await response.json() : null;
	if (!response.ok) {
		throw new Problem(response.status, value ?? {}, Number(response.headers.get("Retry-After")) || 0);
	}
	return { value, etag: response.headers.get("ETag") ?? "" };
}

/** get returns what an operation answers. */
export const get = async (where, query, signal) => (await call("GET", where, { query, signal })).value;
