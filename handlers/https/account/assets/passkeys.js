// Passkeys: what this file does nobody can do without a script. Everything else on
// these pages works without it.
//
// A form with data-passkey is shown when the browser knows passkeys. Submitting it
// begins a ceremony at data-begin, lets the browser make or use a passkey, and sends
// the result to data-finish.

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

// Browsers before 2025 do not read and write the JSON forms by themselves.
function parse(kind, options) {
	const native = kind === "create" ? "parseCreationOptionsFromJSON" : "parseRequestOptionsFromJSON";
	if (PublicKeyCredential[native]) {
		return PublicKeyCredential[native](options);
	}
	const descriptor = (d) => ({ ...d, id: bytes(d.id) });
	const parsed = { ...options, challenge: bytes(options.challenge) };
	if (options.user) {
		parsed.user = { ...options.user, id: bytes(options.user.id) };
	}
	parsed.excludeCredentials = options.excludeCredentials?.map(descriptor);
	parsed.allowCredentials = options.allowCredentials?.map(descriptor);
	return parsed;
}

function toJSON(credential) {
	if (credential.toJSON) {
		return credential.toJSON();
	}
	const response = {};
	for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
		if (credential.response[name]) {
			response[name] = text(credential.response[name]);
		}
	}
	return { id: credential.id, rawId: text(credential.rawId), type: credential.type, response, clientExtensionResults: {} };
}

async function post(url, body) {
	const answer = await fetch(url, {
		method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
	});
	if (answer.redirected) { // signed out meanwhile
		location.reload();
		return new Promise(() => {});
	}
	const content = await answer.json();
	if (!answer.ok) {
		throw new Error(content.error);
	}
	return content;
}

async function perform(form) {
	const { options } = await post(form.dataset.begin, {});
	const kind = form.dataset.passkey;
	let credential;
	try {
		credential = await navigator.credentials[kind]({ publicKey: parse(kind, options.publicKey) });
	} catch (err) {
		throw new Error(err.name === "InvalidStateError" ? form.dataset.known : form.dataset.cancelled);
	}
	const fields = Object.fromEntries(new FormData(form));
	const { next } = await post(form.dataset.finish, { ...fields, response: toJSON(credential) });
	location.assign(next);
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
	if (!window.PublicKeyCredential) {
		continue;
	}
	form.hidden = false;
	form.addEventListener("submit", async (event) => {
		event.preventDefault();
		const button = form.querySelector("button"), problem = form.querySelector("[role=alert]");
		button.disabled = true;
		problem.hidden = true;
		try {
			await perform(form);
		} catch (err) {
			problem.textContent = err.message || form.dataset.cancelled;
			problem.hidden = false;
			button.disabled = false;
		}
	});
}
