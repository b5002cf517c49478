// Bundles src/*.ts for browsers, with the licences of what goes into them.
import { build } from "esbuild";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

const out = process.argv[2];
const entries = ["newkey", "deltachat"];

await mkdir(out, { recursive: true });
const { metafile } = await build({
  entryPoints: entries.map((name) => `src/${name}.ts`),
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022"], // all browsers of the last years
  charset: "utf8",
  legalComments: "none", // they are in licences.txt, whole
  banner: { js: "/* Licences: licences.txt beside this file. */" },
  metafile: true,
});
await writeFile(join(out, "licences.txt"), await licences(Object.keys(metafile.inputs)));

// licences returns the licence texts of all packages that files are from.
async function licences(files) {
  const packages = new Set();
  for (const file of files) {
    const found = /^(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file);
    if (found) packages.add(file.slice(0, found[0].length - 1));
  }
  const texts = new Map(); // what each package says, once for each version of it
  for (const dir of [...packages].sort()) {
    const { name, version, license } = JSON.parse(await readFile(join(dir, "package.json"), "utf8"));
    texts.set(`${name} ${version} (${license})`, await licence(dir));
  }
  const parts = [...texts].map(([title, text]) => `${title}\n\n${text.replaceAll("\r\n", "\n").trim()}\n`);
  return "The scripts in this directory contain these packages.\n\n" + parts.join("\n" + "-".repeat(72) + "\n\n");
}

// licence returns what a package says of its licence: a file of it, or else the
// end of its README.
async function licence(dir) {
  const names = (await readdir(dir)).sort();
  const files = names.filter((name) => /^(licen[cs]e|copyright|notice)/i.test(basename(name, ".txt")));
  if (files.length > 0) {
    return (await Promise.all(files.map((file) => readFile(join(dir, file), "utf8")))).join("\n\n");
  }
  const readme = await readFile(join(dir, "README.md"), "utf8");
  const at = readme.search(/^#+ *licen[cs]e/im);
  if (at < 0) throw new Error(`${dir} has no licence text`);
  return readme.slice(at);
}
