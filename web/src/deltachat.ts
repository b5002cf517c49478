// The page that shows Delta Chat's QR code. It holds the password, which is why
// it is drawn here: what is typed is never sent, and is not kept.

import encodeQR from "qr";

import { element, text } from "./page";

const form = element("deltachat", HTMLFormElement);
const password = element("deltachat-password", HTMLInputElement);
const shown = element("deltachat-code", HTMLElement);

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (password.value === "") return;
  shown.replaceChildren(draw(login(text(form, "login"), password.value), text(form, "label")));
  shown.hidden = false;
});
password.addEventListener("input", () => {
  shown.replaceChildren(); // it would be the code of what stood here before
  shown.hidden = true;
});
form.hidden = false;

// login puts a password where the page left room for it.
function login(template: string, secret: string): string {
  const strict = encodeURIComponent(secret).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
  return template.replace("?p=", () => `?p=${strict}`);
}

function draw(content: string, label: string): SVGSVGElement {
  const modules = encodeQR(content, "raw", { ecc: "low", border: 4 });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${modules.length} ${modules.length}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const light = document.createElementNS(svg.namespaceURI, "rect");
  light.setAttribute("width", "100%");
  light.setAttribute("height", "100%");
  light.setAttribute("fill", "#fff"); // readers want dark on light, in dark mode too
  const dark = document.createElementNS(svg.namespaceURI, "path");
  dark.setAttribute("d", modules.flatMap((row, y) => row.flatMap((on, x) => (on ? [`M${x} ${y}h1v1h-1z`] : []))).join(""));
  dark.setAttribute("fill", "#000");
  svg.append(light, dark);
  return svg as SVGSVGElement;
}
