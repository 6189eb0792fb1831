// "Copy the call": every snippet is run, against a service that needs a token and one that does not.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { before, test } from "node:test";
import { promisify } from "node:util";

import { button, choose, dialog, field, moreSettings, open, playable, prompt, take } from "./browser.mjs";
import { BASE, LOCKED, made, newest, TOKEN, tone, uploaded } from "./service.mjs";

// Whatever means something in one of the languages.
const TRICKY = `It's "fast" & $HOME \`loud\` \\n %s {x} – ça va? 🎷\nnext line`;
const SNIPPETS = [
  { label: "curl", file: "music.sh", command: ["bash"] },
  { label: "Python", file: "music.py", command: ["python"] },
  { label: "Python with replicate", file: "music_replicate.py", command: ["python"] },
  { label: "JavaScript", file: "music.mjs", command: ["node"] },
];
const SERVICES = [
  { base: BASE, token: undefined },
  { base: LOCKED, token: TOKEN },
];

let calls;

before(async () => {
  const withAudio = async (one) => ({ ...one, audio: await uploaded(tone(1).buffer, one.base) });
  calls = await Promise.all(SERVICES.map(withAudio));
});

for (const snippet of SNIPPETS) {
  test(`${snippet.label} makes what the form says`, async (t) => {
    await Promise.all(calls.map((call) => fromTheForm(t, snippet, call)));
  });
}

async function fromTheForm(t, snippet, { base, token, audio }) {
  const page = await open(t, { base, token, path: `/?input_audio=${encodeURIComponent(audio)}` });
  await prompt(page).fill(TRICKY);
  await field(page, "Duration").fill("1");
  await field(page, "Continue it").check({ force: true });
  await moreSettings(page);
  await field(page, "Seed").fill("7");
  await field(page, "Temperature").fill("0.9");
  await field(page, "Output format").selectOption("mp3");
  await button(page, "Copy the call").click();
  const { code, hint } = await shown(page, snippet.label);
  assert.equal(hint.includes("MUSICGEN_TOKEN"), token !== undefined);
  assert.ok(!code.includes(TOKEN), "the token itself is not in it");
  const music = await run(snippet, code);
  const [prediction] = await newest(1, base);
  assert.equal(prediction.status, "succeeded");
  const expected = {
    prompt: TRICKY,
    duration: 1,
    continuation: true,
    seed: 7,
    temperature: 0.9,
    output_format: "mp3",
    input_audio: audio,
  };
  for (const [name, value] of Object.entries(expected)) assert.deepEqual(prediction.input[name], value, name);
  const output = Buffer.from(await (await fetch(prediction.output)).arrayBuffer());
  assert.ok(music.equals(output));
}

test("every snippet repeats a take", async (t) => {
  const first = await made({ prompt: "Once more", duration: 1, seed: 8, top_k: 50 });
  const page = await open(t, { path: `/#takes=${first.id}` });
  await playable(take(page));
  await choose(take(page), "Copy the call");
  const codes = [];
  for (const { label } of SNIPPETS) codes.push((await shown(page, label)).code);
  const music = await Promise.all(SNIPPETS.map((snippet, index) => run(snippet, codes[index], "music.wav")));
  const again = await newest(SNIPPETS.length);
  const { input: wanted, version: current } = first;
  for (const { input, version } of again) assert.deepEqual({ input, version }, { input: wanted, version: current });
  // Without the tags behind the samples, which name the prediction.
  const samples = music.map((one) => one.subarray(44, 44 + one.readUInt32LE(40)));
  assert.ok(samples.every((one) => one.length === 64_000 && one.equals(samples[0])));
});

test("a snippet for a chosen file names its upload", async (t) => {
  const page = await open(t);
  await page.locator("input[type=file]").setInputFiles(tone(1));
  await button(page, "Copy the call").click();
  const { code } = await shown(page, "curl");
  assert.match(code, new RegExp(`"input_audio": "${BASE}/files/\\w+"`));
});

test("the tabs are chosen by keyboard, and the text is copied", async (t) => {
  const page = await open(t, { permissions: ["clipboard-read", "clipboard-write"] });
  await prompt(page).fill("Copied");
  await button(page, "Copy the call").click();
  await page.getByRole("tab", { name: "curl" }).focus();
  await page.keyboard.press("ArrowLeft");
  assert.equal(await page.getByRole("tab", { name: "JavaScript" }).getAttribute("aria-selected"), "true");
  const text = await page.getByRole("tabpanel").locator("code").textContent();
  await button(dialog(page, "Copy the call"), "Copy").click();
  await button(dialog(page, "Copy the call"), "Copied").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), text);
  await page.keyboard.press("Escape");
  await dialog(page, "Copy the call").waitFor({ state: "detached" });
});

/** Return the text of one tab, and what is said below it. */
async function shown(page, label) {
  await page.getByRole("tab", { name: label, exact: true }).click();
  const panel = page.getByRole("tabpanel");
  await panel.and(page.getByLabel(label, { exact: true })).waitFor();
  return { code: await panel.locator("code").textContent(), hint: await panel.locator(".field-hint").innerText() };
}

/** Run it in an empty folder; returns the music that it saves. */
async function run({ file, command: [program, ...options] }, code, output = "music.mp3") {
  const folder = await mkdtemp(path.join(tmpdir(), "snippet-"));
  try {
    await writeFile(path.join(folder, file), code);
    const env = { ...process.env, MUSICGEN_TOKEN: TOKEN, PYTHONWARNINGS: "error" };
    await promisify(execFile)(program, [...options, file], { cwd: folder, env, timeout: 120_000 });
    return await readFile(path.join(folder, output));
  } finally {
    await rm(folder, { recursive: true });
  }
}
