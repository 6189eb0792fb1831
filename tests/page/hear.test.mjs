// Hearing finished takes, comparing them, and going on from them.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import {
  button,
  choose,
  dialog,
  fact,
  field,
  generate,
  moreSettings,
  open,
  playable,
  position,
  prompt,
  take,
  takes,
  until,
} from "./browser.mjs";
import { ask, BASE, get, made, newest } from "./service.mjs";

let first;
let second;

before(async () => {
  const common = { duration: 2, temperature: 0.9, output_format: "wav" };
  [first, second] = await Promise.all([
    made({ prompt: "Quiet harp", seed: 5, ...common }),
    made({ prompt: "Loud drums", seed: 6, ...common }),
  ]);
});

/** Open the page with finished takes on it. */
async function hear(t, ...predictions) {
  const page = await open(t, { path: `/#takes=${predictions.map(({ id }) => id).join(",")}` });
  for (const index of predictions.keys()) await playable(take(page, index));
  return page;
}

const slider = (one) => one.getByRole("slider", { name: "Position" });
const lastStart = (page) => page.evaluate(() => spy.starts.at(-1));

test("a click on the waveform seeks", async (t) => {
  const page = await hear(t, first);
  const box = await slider(take(page)).locator("xpath=preceding-sibling::div").boundingBox();
  await page.mouse.click(box.x + box.width * 0.75, box.y + box.height / 2);
  await until(async () => Math.abs((await position(take(page))) - 1.45) < 0.1, "the position is where it was clicked");
  await button(take(page), "Play").click();
  assert.ok(Math.abs((await lastStart(page)).offset - 1.5) < 0.1);
});

test("arrow keys seek, on the page and on the slider", async (t) => {
  const page = await hear(t, first);
  await page.keyboard.press("ArrowRight");
  await until(async () => (await position(take(page))) === 1, "one second on");
  await page.keyboard.press("ArrowLeft");
  await until(async () => (await position(take(page))) === 0, "and back");
  await page.keyboard.press("Shift+ArrowRight");
  await until(async () => (await position(take(page))) === 2, "five seconds on: the end");
  await slider(take(page)).focus();
  await page.keyboard.press("Home");
  await until(async () => (await position(take(page))) === 0, "the beginning");
  for (let times = 0; times < 5; times++) await page.keyboard.press("ArrowRight");
  await until(async () => (await position(take(page))) === 0.5, "by tenths");
  assert.match(await slider(take(page)).getAttribute("aria-valuetext"), /^0:00\.5 of 0:02\.0$/);
});

test("space plays and pauses, but not in a text", async (t) => {
  const page = await hear(t, first);
  await page.keyboard.press("Space");
  await button(take(page), "Pause").waitFor();
  await until(async () => (await position(take(page))) > 0.1, "the position moves");
  await page.keyboard.press("Space");
  await button(take(page), "Play").waitFor();
  const paused = await position(take(page));
  await sleep(300);
  assert.equal(await position(take(page)), paused);
  await prompt(page).click();
  await page.keyboard.type("a 1 b");
  assert.equal(await prompt(page).inputValue(), "a 1 b");
  assert.equal(await button(take(page), "Pause").count(), 0);
});

test("shortcuts can be switched off", async (t) => {
  const page = await hear(t, first);
  await field(page, "Keyboard shortcuts").uncheck({ force: true });
  await page.locator("body").press("Space");
  await page.locator("body").press("ArrowRight");
  assert.equal(await button(take(page), "Pause").count(), 0);
  assert.equal(await position(take(page)), 0);
});

test("digits choose a take, which plays on at the same position", async (t) => {
  const page = await hear(t, first, second);
  const [one, two] = [take(page, 0), take(page, 1)];
  assert.equal(await button(one, "Choose number 1").getAttribute("aria-pressed"), "true");
  await page.keyboard.press("Space");
  await until(async () => (await position(one)) > 0.3, "the position moves");
  await page.keyboard.press("2");
  await button(two, "Pause").waitFor();
  await button(one, "Play").waitFor();
  assert.equal(await button(two, "Choose number 2").getAttribute("aria-pressed"), "true");
  const starts = await page.evaluate(() => spy.starts);
  assert.equal(starts.length, 2);
  const played = starts[1].now - starts[0].now;
  assert.ok(starts[1].offset > 0.2 && Math.abs(starts[1].offset - played) < 0.15, JSON.stringify(starts));
  await page.keyboard.press("1");
  await button(one, "Pause").waitFor();
});

test("takes are equally loud, unless this is switched off", async (t) => {
  const page = await hear(t, first, second);
  const loudest = field(page, "Same loudness");
  assert.ok(await loudest.isChecked());
  await loudest.uncheck({ force: true });
  await button(take(page), "Play").click();
  await until(() => page.evaluate(() => spy.loudest > 0.01), "there is sound");
});

test("a region is played in a loop, and its edges can be moved", async (t) => {
  const page = await hear(t, first);
  await button(page, "Loop").click();
  assert.equal(await button(page, "Loop").getAttribute("aria-pressed"), "true");
  await field(page, "Loop start").fill("0.4");
  await field(page, "Loop start").press("Tab");
  await field(page, "Loop end").fill("0.8");
  await field(page, "Loop end").press("Tab");
  await button(take(page), "Play").click();
  const { loop, loopStart, loopEnd, offset } = await lastStart(page);
  assert.deepEqual({ loop, loopStart, loopEnd, offset }, { loop: true, loopStart: 0.4, loopEnd: 0.8, offset: 0.4 });
  for (let times = 0; times < 12; times++) {
    const at = await position(take(page));
    assert.ok(at >= 0.3 && at <= 0.9, String(at));
    await sleep(100);
  }
  await button(take(page), "Pause").click();
  const handle = await take(page).locator("[part~=region-handle-right]").boundingBox();
  const wave = await slider(take(page)).locator("xpath=preceding-sibling::div").boundingBox();
  await page.mouse.move(handle.x + handle.width / 2, handle.y + handle.height / 2);
  await page.mouse.down();
  for (let step = 1; step <= 8; step++) await page.mouse.move(handle.x + (wave.width * step) / 32, handle.y + 20);
  await page.mouse.up();
  const end = async () => Number(await field(page, "Loop end").inputValue());
  await until(async () => Math.abs((await end()) - 1.3) < 0.1, "the end has moved");
  await button(page, "Loop").click();
  await take(page).locator("[part~=region]").waitFor({ state: "detached" });
});

test("the spectrogram is drawn when it is opened", async (t) => {
  const page = await hear(t, first);
  await button(take(page), "Spectrogram").click();
  const drawing = take(page).getByRole("img", { name: /^Spectrogram/ });
  await drawing.and(page.locator("[aria-busy=false]")).waitFor();
  const colours = await until(
    () =>
      drawing.locator("canvas").first().evaluate((canvas) => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer)).size;
      }),
    "there are pixels",
  );
  assert.ok(colours > 50, `${colours} colours`);
  await button(take(page), "Spectrogram").click();
  assert.equal(await drawing.count(), 0);
});

test("what was measured is shown", async (t) => {
  const page = await hear(t, first);
  const signed = (value, unit) => `${String(value).replace("-", "−")} ${unit}`;
  const { seed, loudness, true_peak: peak, real_time_factor: factor } = first.metrics;
  assert.match(await fact(take(page), "Length"), /^2(\.0)?\s?s$/);
  assert.equal(await fact(take(page), "Seed"), String(seed));
  assert.ok(Math.abs(measured(await fact(take(page), "Loudness")) - loudness) < 0.06, signed(loudness, "LUFS"));
  assert.ok(Math.abs(measured(await fact(take(page), "True peak")) - peak) < 0.06, signed(peak, "dBTP"));
  assert.equal(await fact(take(page), "Real-time factor"), factor.toFixed(2));
});

const measured = (text) => Number.parseFloat(text.replace("−", "-"));

test("the download is the service's file, under a name that tells it", async (t) => {
  const page = await hear(t, first);
  const [download] = await Promise.all([page.waitForEvent("download"), button(take(page), "Download").click()]);
  assert.match(download.suggestedFilename(), /^quiet-harp.*5.*\.wav$/i);
  const saved = await readFile(await download.path());
  assert.ok(saved.equals(Buffer.from(await (await fetch(first.output)).arrayBuffer())));
});

test("vary makes the same with another seed", async (t) => {
  const page = await hear(t, first);
  await button(take(page), "Vary").click();
  await until(async () => (await takes(page).count()) === 2, "there is a new take");
  const [{ input }] = await newest(1);
  const { seed, ...others } = first.input;
  assert.notEqual(input.seed, seed);
  assert.deepEqual({ ...input, seed }, { ...others, seed });
});

test("again with this seed fills the form with it", async (t) => {
  const page = await hear(t, first);
  await choose(take(page), "Again with this seed");
  await moreSettings(page);
  assert.equal(await prompt(page).inputValue(), "Quiet harp");
  assert.equal(await field(page, "Seed").inputValue(), "5");
  assert.equal(await field(page, "Duration").inputValue(), "2");
  assert.equal(await field(page, "Temperature").inputValue(), "0.9");
});

test("rerun makes it again", async (t) => {
  const page = await hear(t, first);
  await choose(take(page), "Rerun");
  await take(page).getByText("rerun", { exact: true }).waitFor();
  await playable(take(page));
  const [again] = await newest(1);
  assert.equal(again.rerun_of, first.id);
  assert.deepEqual(again.input, first.input);
  assert.equal(await fact(take(page), "Seed"), "5");
});

test("continue this makes a take the beginning of the next", async (t) => {
  const page = await hear(t, first);
  await button(take(page), "Continue this").click();
  await page.getByText(/^quiet-harp.*\.wav$/i).waitFor();
  assert.ok(await field(page, "Continue it").isChecked());
  assert.equal(await prompt(page).inputValue(), "Quiet harp");
  const [{ input }] = await generate(page);
  assert.equal(input.continuation, true);
  assert.ok(input.input_audio.startsWith(`${BASE}/files/`));
  assert.ok(!("seed" in input));
  const music = Buffer.from(await (await fetch(first.output)).arrayBuffer());
  const { checksums } = await ask(input.input_audio);
  assert.equal(checksums.sha256, createHash("sha256").update(music).digest("hex"));
});

test("a take's melody is used for the next", async (t) => {
  const page = await hear(t, first);
  await button(take(page), "Use as melody").click();
  assert.ok(await field(page, "Follow its melody").isChecked());
  const [{ input }] = await generate(page);
  assert.equal(input.continuation ?? false, false);
  assert.ok(input.input_audio.startsWith(`${BASE}/files/`));
});

test("a take is deleted only after a question", async (t) => {
  const doomed = await made({ prompt: "Doomed", duration: 1 });
  const page = await hear(t, doomed);
  const earlier = page.getByRole("list", { name: "Earlier" });
  await choose(take(page), "Delete");
  const question = dialog(page, "Delete this take?");
  await button(question, "Keep it").click();
  await question.waitFor({ state: "detached" });
  assert.equal((await get(doomed.id)).status, "succeeded");
  assert.equal(await earlier.getByText("Doomed").count(), 1);
  await choose(take(page), "Delete");
  await button(question, "Delete").click();
  await page.getByText("Nothing here yet").waitFor();
  assert.equal(await earlier.getByText("Doomed").count(), 0);
  assert.equal((await fetch(`${BASE}/predictions/${doomed.id}`)).status, 404);
});
