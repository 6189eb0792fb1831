// Starting from audio: a file, an address, the microphone; which part of it, and what to do with it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { alertOf, button, field, generate, open, playable, prompt, take, until } from "./browser.mjs";
import { BASE, newest, tone, uploaded } from "./service.mjs";

const file = (page) => page.locator("input[type=file]");

test("a file is continued", async (t) => {
  const page = await open(t);
  await prompt(page).fill("Go on");
  await field(page, "Duration").fill("1");
  await file(page).setInputFiles(tone(1));
  await page.getByText("tone.wav").waitFor();
  await field(page, "Continue it").check({ force: true });
  const [body] = await generate(page);
  assert.equal(body.input.continuation, true);
  assert.ok(body.input.input_audio.startsWith(`${BASE}/files/`));
  await take(page).getByText("continues audio").waitFor();
  await playable(take(page));
});

test("a file's melody is followed", async (t) => {
  const page = await open(t);
  await field(page, "Duration").fill("1");
  await file(page).setInputFiles(tone(1));
  await field(page, "Continue it").check({ force: true });
  await field(page, "Follow its melody").check({ force: true });
  const [body] = await generate(page);
  assert.equal(body.input.continuation ?? false, false);
  await take(page).getByText("follows a melody").waitFor();
});

test("a file is dropped onto the form, and removed again", async (t) => {
  const page = await open(t);
  const bytes = [...tone(1).buffer];
  const data = await page.evaluateHandle((content) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(content)], "dropped.wav", { type: "audio/wav" }));
    return transfer;
  }, bytes);
  await page.getByText("Drop a file").dispatchEvent("drop", { dataTransfer: data });
  await page.getByText("dropped.wav").waitFor();
  await button(page, "Remove the audio").click();
  await page.getByText("Drop a file").waitFor();
  assert.equal(await page.getByText("dropped.wav").count(), 0);
});

test("audio is named by its address", async (t) => {
  const url = await uploaded(tone(1).buffer);
  const page = await open(t);
  await button(page, "By URL").click();
  await page.getByRole("textbox", { name: "Address of the audio" }).fill(url);
  await button(page, "Use it").click();
  await field(page, "Continue it").check({ force: true });
  await field(page, "Duration").fill("1");
  const [body] = await generate(page);
  assert.equal(body.input.input_audio, url);
  await take(page).waitFor();
  assert.equal((await newest(1))[0].input.input_audio, url);
});

test("an address without audio is told at the field", async (t) => {
  const page = await open(t);
  await button(page, "By URL").click();
  await page.getByRole("textbox", { name: "Address of the audio" }).fill("ftp://somewhere/tone.wav");
  await page.keyboard.press("Enter");
  await field(page, "Continue it").check({ force: true });
  await generate(page);
  assert.match(await alertOf(page).innerText(), /^Input audio /);
});

test("the microphone is recorded", async (t) => {
  const page = await open(t);
  await button(page, "Record").click();
  await page.getByRole("status").filter({ hasText: /^Recording$/ }).waitFor();
  await sleep(1_000);
  await button(page, "Stop and use it").click();
  await page.getByText(/^recording\./).waitFor();
  await field(page, "Continue it").check({ force: true });
  await field(page, "Duration").fill("1");
  const [body] = await generate(page);
  assert.ok(body.input.input_audio.startsWith(`${BASE}/files/`));
  await playable(take(page)); // The service can read it.
});

test("a recording is discarded", async (t) => {
  const page = await open(t);
  await button(page, "Record").click();
  await button(page, "Discard").click();
  await button(page, "Record").waitFor();
});

test("without leave to use the microphone, the page says what to do", async (t) => {
  const page = await open(t);
  await page.evaluate(() => {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));
  });
  await button(page, "Record").click();
  assert.match(await alertOf(page).innerText(), /Allow it beside the address/);
});

test("the region on the waveform is the part that is used", async (t) => {
  const page = await open(t);
  await file(page).setInputFiles(tone(4));
  await field(page, "Continue it").check({ force: true });
  const region = page.locator("[part~=region]");
  await region.waitFor();
  const whole = await region.boundingBox();
  await drag(page, await page.locator("[part~=region-handle-left]").boundingBox(), whole.width / 4);
  await drag(page, await page.locator("[part~=region-handle-right]").boundingBox(), -whole.width / 4);
  assert.equal(await field(page, "From").inputValue(), "1");
  assert.equal(await field(page, "To").inputValue(), "3");
  const [body] = await generate(page);
  assert.equal(body.input.continuation_start, 1);
  assert.equal(body.input.continuation_end, 3);
});

test("the region follows the numbers", async (t) => {
  const page = await open(t);
  await file(page).setInputFiles(tone(4));
  const region = page.locator("[part~=region]");
  await region.waitFor();
  const whole = await region.boundingBox();
  await field(page, "From").fill("2");
  const after = await until(async () => {
    const box = await region.boundingBox();
    return box.width < whole.width * 0.6 && box;
  }, "the region is smaller");
  assert.ok(Math.abs(after.x - (whole.x + whole.width / 2)) < 5);
});

async function drag(page, box, pixels) {
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await page.mouse.move(x, y);
  await page.mouse.down();
  for (let step = 1; step <= 8; step++) await page.mouse.move(x + (pixels * step) / 8, y);
  await page.mouse.up();
}
