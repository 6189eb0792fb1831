// Builds the page into app/page/built: index.html, and scripts and styles whose names carry a hash of their content.
// docs/ in there is the API's reference: Swagger UI, served by us so that it needs no other host.
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const outdir = path.resolve(here, "../app/page/built");

const shared = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  metafile: true,
  outdir,
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  publicPath: "/page",
  target: ["chrome111", "firefox114", "safari16.4"],
  legalComments: "none",
};

await rm(outdir, { recursive: true, force: true });
await mkdir(outdir, { recursive: true });
const results = [
  await build({
    ...shared,
    entryPoints: { page: "src/main.tsx", style: "src/style.css" },
    format: "esm",
    splitting: true,
    jsx: "automatic",
    jsxImportSource: "preact",
  }),
  // Runs before the first paint, so it is a script of its own and no module.
  await build({ ...shared, entryPoints: { theme: "src/theme_before_paint.ts" }, format: "iife" }),
];
const reference = await build({
  ...shared,
  entryPoints: { reference: "src/reference/reference.ts", "reference-style": "src/reference/reference.css" },
  format: "iife",
  outdir: path.join(outdir, "docs"),
});
const outputs = Object.assign({}, ...results.map((result) => result.metafile.outputs));
const inputs = Object.assign({}, ...results.map((result) => result.metafile.inputs));

await writeIndex();
await writeReference();
await writeLicenses();
await report();

/** Writes index.html with the names of the files that it needs. */
async function writeIndex() {
  const name = (entry) => {
    const found = Object.entries(outputs).find(([, output]) => output.entryPoint === entry);
    return path.basename(found[0]);
  };
  const script = name("src/main.tsx");
  const page = (await readFile(path.join(here, "src/index.html"), "utf8"))
    .replace("{{style}}", `/page/${name("src/style.css")}`)
    .replace("{{theme}}", `/page/${name("src/theme_before_paint.ts")}`)
    .replace("{{preload}}", preloads(script))
    .replace("{{script}}", `/page/${script}`);
  await writeFile(path.join(outdir, "index.html"), page);
}

/** Writes docs/index.html and the files of Swagger UI. */
async function writeReference() {
  const name = (entry) => {
    const found = Object.entries(reference.metafile.outputs).find(([, output]) => output.entryPoint === entry);
    return `/page/docs/${path.basename(found[0])}`;
  };
  const page = (await readFile(path.join(here, "src/reference/index.html"), "utf8"))
    .replace("{{swagger}}", await copied("swagger-ui-bundle.js"))
    .replace("{{swagger-style}}", await copied("swagger-ui.css"))
    .replace("{{script}}", name("src/reference/reference.ts"))
    .replace("{{style}}", name("src/reference/reference.css"));
  await writeFile(path.join(outdir, "docs/index.html"), page);
}

/** Copies a file of Swagger UI under a name with a hash of its content; returns its address. */
async function copied(file) {
  const content = await readFile(path.join(here, "node_modules/swagger-ui-dist", file));
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 8);
  const { name, ext } = path.parse(file);
  await writeFile(path.join(outdir, `docs/${name}-${hash}${ext}`), content);
  return `/page/docs/${name}-${hash}${ext}`;
}

/** Returns links to the scripts that the first one imports at once, so that they load together. */
function preloads(script) {
  const key = Object.keys(outputs).find((file) => path.basename(file) === script);
  const files = outputs[key].imports.filter((one) => one.kind === "import-statement").map((one) => one.path);
  return files.map((file) => `<link rel="modulepreload" href="/page/${path.basename(file)}">`).join("\n    ");
}

/** Writes the licences of the packages whose code is in the scripts. */
async function writeLicenses() {
  const names = new Set(["swagger-ui-dist"]);
  for (const file of Object.keys(inputs)) {
    const match = file.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//);
    if (match) names.add(match[1]);
  }
  const texts = [];
  for (const name of [...names].sort()) texts.push(await license(name));
  await writeFile(path.join(outdir, "licenses.txt"), texts.join("\n\n" + "-".repeat(78) + "\n\n"));
}

async function license(name) {
  const folder = path.join(here, "node_modules", name);
  const { version, license: kind } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  for (const file of ["LICENSE", "LICENSE.md", "LICENSE.txt", "license"]) {
    const text = await readFile(path.join(folder, file), "utf8").catch(() => undefined);
    if (text) return `${name} ${version} (${kind})\n\n${text.trim()}\n`;
  }
  throw new Error(`${name} has no licence file: its licence cannot be passed on`);
}

async function report() {
  let total = 0;
  for (const file of Object.keys(outputs).sort()) {
    const packed = gzipSync(await readFile(path.join(here, file)), { level: 9 }).length;
    if (file.endsWith(".js")) total += packed;
    console.log(`${path.basename(file).padEnd(36)} ${(packed / 1000).toFixed(1).padStart(6)} kB compressed`);
  }
  console.log(`${"scripts in all".padEnd(36)} ${(total / 1000).toFixed(1).padStart(6)} kB compressed`);
  if (total > 200_000) throw new Error("The scripts are larger than 200 kB compressed");
}
