// The page that makes a key for a device. The private key and the passphrase
// are made here and stay here: the gateway is sent the certificate.

import { makeIdentity } from "./identity";
import type { Identity } from "./identity";
import { element, text } from "./page";
import { makePassphrase } from "./passphrase";
import { toBase64, toPEM } from "./pem";
import { toPKCS12 } from "./pkcs12";

/** What the gateway says of a registration. */
interface Registered {
  /** The page of the key, where a reload leads. */
  page: string;
  /** The files' name, without ending. */
  file: string;
  /** What to call the key in lists of certificates. */
  label: string;
}

const form = element("newkey", HTMLFormElement);
const button = element("newkey-make", HTMLButtonElement);
const failure = element("newkey-failure", HTMLElement);
const made = element("newkey-made", HTMLElement);

// One key for this page, however often it is sent: when an answer was lost, the
// next attempt finds that the key is there already.
let identity: Promise<Identity> | undefined;
let saved = true;

if (globalThis.crypto?.subtle) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void make();
  });
  form.hidden = false;
} else {
  failure.textContent = text(form, "unable");
  failure.hidden = false;
}

async function make(): Promise<void> {
  if (button.disabled) return; // a double click
  button.disabled = true;
  failure.hidden = true;
  try {
    identity ??= makeIdentity(text(form, "address"));
    const mine = await identity;
    await show(mine, await register(mine));
  } catch (error) {
    failure.textContent = error instanceof Refusal ? error.message : text(form, "failed");
    failure.hidden = false;
    failure.focus();
  } finally {
    button.disabled = false;
  }
}

/** Refusal is the gateway's answer, in words for people. */
class Refusal extends Error {}

async function register(mine: Identity): Promise<Registered> {
  const body = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (typeof value === "string") body.append(name, value);
  body.set("public_key", toPEM("CERTIFICATE", mine.certificate));
  const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
  if (!response.headers.get("Content-Type")?.startsWith("application/json")) {
    throw new Refusal(text(form, response.redirected ? "signedout" : "failed"));
  }
  const answer = await response.json();
  if (!response.ok) throw new Refusal(answer.error);
  return answer;
}

// show offers the files. From here on the page must not be left before one is
// saved, as nobody can make them again.
async function show(mine: Identity, registered: Registered): Promise<void> {
  const passphrase = makePassphrase();
  const compatible = await toPKCS12(mine, registered.label, passphrase, "compatible");
  offer("compatible", registered.file + ".p12", "application/x-pkcs12", compatible);
  offer("modern", registered.file + ".p12", "application/x-pkcs12", await toPKCS12(mine, registered.label, passphrase, "modern"));
  offer("pem", registered.file + ".pem", "application/x-pem-file", toPEM("PRIVATE KEY", mine.privateKey) + toPEM("CERTIFICATE", mine.certificate));
  offer("profile", registered.file + ".mobileconfig", "application/x-apple-aspen-config", text(form, "mobileconfig").replace(text(form, "identity"), toBase64(compatible)));
  element("newkey-passphrase", HTMLOutputElement).value = passphrase;

  const client = new FormData(form).get("client");
  for (const part of made.querySelectorAll<HTMLElement>("[data-for]")) {
    part.hidden = !part.dataset["for"]!.split(" ").includes(String(client));
  }
  saved = false;
  history.replaceState(null, "", registered.page);
  form.hidden = true;
  for (const part of document.querySelectorAll<HTMLElement>(".newkey-before")) part.hidden = true;
  made.hidden = false;
  element("newkey-done", HTMLHeadingElement).focus();
}

function offer(what: string, name: string, type: string, content: BlobPart): void {
  const link = document.getElementById(`newkey-${what}`);
  if (!(link instanceof HTMLAnchorElement)) return; // not offered
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.addEventListener("click", () => {
    saved = true;
  });
}

addEventListener("beforeunload", (event) => {
  if (!saved) event.preventDefault();
});
