// Watching music being made.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import {
  button,
  choose,
  dialog,
  field,
  generate,
  MUSIC_MS,
  open,
  playable,
  position,
  prompt,
  take,
  takes,
  until,
} from "./browser.mjs";
import { BASE, cancelAll, get, LOCKED, made, newest, post, TOKEN } from "./service.mjs";

// Estimates are made from what has been measured.
before(() => Promise.all([BASE, LOCKED].map((base) => made({ prompt: "First", duration: 1 }, base))));

const bar = (within) => within.getByRole("progressbar", { name: "Progress" });
const percent = async (one) => Number(await bar(one).getAttribute("aria-valuenow"));

/** Ask for music that takes a while on the page. */
async function begin(page, text, seconds = 30) {
  await prompt(page).fill(text);
  await field(page, "Duration").fill(String(seconds));
  await generate(page);
  await take(page).waitFor();
  return (await newest(1))[0].id;
}

test("the progress bar moves, and what is left is told", async (t) => {
  const page = await open(t);
  await begin(page, "A long one");
  const first = await until(async () => percent(take(page)), "there is progress");
  const told = () => bar(take(page)).getAttribute("aria-valuetext");
  await until(async () => /^Step \d+ of 753, about \d+ (s|min) left$/.test(await told()), "what is left is told");
  await until(async () => (await percent(take(page))) > first, "the progress bar moves");
});

test("the place in the queue is told, and when it begins", async (t) => {
  // This service makes one at a time, and has a few more at hand.
  for (let number = 0; number < 6; number++) await post({ prompt: "Before", duration: 30 }, LOCKED);
  const page = await open(t, { base: LOCKED, token: TOKEN, path: "/?takes=2" });
  await prompt(page).fill("Behind them");
  await field(page, "Duration").fill("30");
  await generate(page, 2);
  await take(page, 1).getByText(/^Waiting, \d ahead, starts in about \d+ (s|min)$/).waitFor();
  await page.getByText(/^Next in the queue, starts in (a moment|about \d+ s)$/).waitFor();
  await bar(take(page, 1)).and(page.locator("[aria-valuetext^=Waiting]")).waitFor();
  await page.reload();
  await page.getByText(/^\s*\d waiting$/).waitFor(); // In the head of the page.
});

test("logs are shown on demand, and grow", async (t) => {
  const page = await open(t);
  await begin(page, "Logged");
  await button(take(page), "Logs").click();
  const text = dialog(page, "Logs").locator("pre");
  await until(async () => /Using seed \d+/.test(await text.innerText()), "the seed is in the logs");
  const before = (await text.innerText()).length;
  await until(async () => (await text.innerText()).length > before, "the logs grow");
  await page.keyboard.press("Escape");
  await dialog(page, "Logs").waitFor({ state: "detached" });
});

test("the finished logs are the service's, each line once", async (t) => {
  const page = await open(t);
  const id = await begin(page, "Logged", 1);
  await playable(take(page));
  await choose(take(page), "Logs");
  assert.equal(await dialog(page, "Logs").locator("pre").textContent(), (await get(id)).logs);
});

test("music is cancelled", async (t) => {
  const page = await open(t);
  const id = await begin(page, "Not this one");
  await until(async () => percent(take(page)), "there is progress");
  await button(take(page), "Cancel").click();
  await take(page).getByText("Cancelled.").waitFor();
  assert.equal((await get(id)).status, "canceled");
  assert.equal(await bar(take(page)).count(), 0);
  assert.equal(await button(take(page), "Play").isEnabled(), false);
});

test("what is cancelled elsewhere, the page notices", async (t) => {
  const page = await open(t);
  await begin(page, "Not this one");
  await until(async () => percent(take(page)), "there is progress");
  await cancelAll();
  await take(page).getByText("Cancelled.").waitFor();
});

test("music is heard while it is made, without gaps", async (t) => {
  const page = await open(t);
  const id = await begin(page, "Live");
  await take(page).getByRole("button", { name: "Listen now", disabled: false }).click();
  await button(take(page), "Stop listening").waitFor();
  await until(() => page.evaluate(() => spy.starts.length >= 3), "pieces are scheduled");
  assert.equal((await get(id)).status, "processing");
  const starts = await page.evaluate(() => spy.starts);
  assert.ok(starts.every(({ when, now }) => when >= now), "each piece begins in the future");
  assert.ok(starts.some(({ peak }) => peak > 0.005));
  // Each piece follows the one before, unless the music came too late for that.
  for (const [index, piece] of starts.entries()) {
    const before = starts[index - 1];
    if (before && piece.now < before.when + before.seconds) {
      assert.ok(Math.abs(piece.when - before.when - before.seconds) < 0.001);
    }
  }
  await until(() => page.evaluate(() => spy.loudest > 0.001), "there is sound at the loudspeaker");
  await button(take(page), "Stop listening").click();
  await take(page).getByRole("button", { name: "Listen now" }).waitFor();
});

test("who listens live goes on in the finished music", async (t) => {
  const page = await open(t);
  // Long enough that it is not finished before a third of a second of it is heard, on whatever machine.
  await begin(page, "Live to the end", 30);
  await take(page).getByRole("button", { name: "Listen now", disabled: false }).click();
  await until(() => page.evaluate(() => spy.contexts[0]?.currentTime > spy.starts[0]?.when + 0.3), "it is heard");
  // Time stands still for the listener, however long the rest takes.
  await page.evaluate(() => spy.contexts[0].suspend());
  await button(take(page), "Pause").waitFor({ timeout: MUSIC_MS });
  const { seconds, offset } = await page.evaluate(() => spy.starts.at(-1));
  assert.ok(Math.abs(seconds - 30) < 0.05, "the last thing that was started is the whole music");
  assert.ok(offset > 0.25 && offset < 2, `at the same place: ${offset}`);
  await until(async () => (await position(take(page))) > offset + 0.2, "it goes on from there");
});

test("without live sound nothing is streamed", async (t) => {
  const page = await open(t);
  await button(page, "More settings").click();
  await field(page, "Live sound").uncheck({ force: true });
  await prompt(page).fill("Silent until it is done");
  await field(page, "Duration").fill("30");
  const [body] = await generate(page);
  assert.equal(body.stream, false);
  await until(async () => percent(take(page)), "there is progress");
  assert.equal(await take(page).getByRole("button", { name: "Listen now", disabled: false }).count(), 0);
});

test("a broken event stream is resumed where it broke off", async (t) => {
  const page = await open(t);
  const resumed = [];
  let last;
  await page.route("**/predictions/*/stream", async (route) => {
    if (last === undefined) {
      const body = await firstEvents(route.request().url(), 6);
      last = body.match(/^id: (.+)$/gm).at(-1).slice(4);
      return route.fulfill({ contentType: "text/event-stream", body });
    }
    resumed.push(route.request().headers()["last-event-id"]);
    return route.continue();
  });
  await begin(page, "Broken off", 2);
  await playable(take(page));
  assert.deepEqual(resumed, [last]);
});

test("an event stream that cannot be opened is tried again, and the music comes all the same", async (t) => {
  const page = await open(t);
  let tried = 0;
  await page.route("**/predictions/*/stream", (route) => {
    tried += 1;
    return tried < 3 ? route.abort() : route.continue();
  });
  await begin(page, "Not at once", 2);
  await playable(take(page));
  assert.ok(tried >= 2);
  assert.equal(await page.getByRole("alert").count(), 0);
});

test("without any event stream the music is shown by asking", async (t) => {
  const page = await open(t);
  await page.route("**/predictions/*/stream", (route) => route.fulfill({ status: 503, body: "" }));
  await begin(page, "By asking", 1);
  await playable(take(page));
});

test("a reload finds the music that is being made", async (t) => {
  const page = await open(t);
  await begin(page, "Still there", 30);
  const before = await until(async () => percent(take(page)), "there is progress");
  await page.reload();
  await take(page).getByRole("heading", { name: "Still there" }).waitFor();
  await until(async () => (await percent(take(page))) > before, "the progress goes on");
  // What was made before the reload is heard too.
  await take(page).getByRole("button", { name: "Listen now", disabled: false }).click();
  await until(() => page.evaluate(() => spy.starts.length), "it is heard");
});

test("a fresh page finds what is being made, without an address that names it", async (t) => {
  await post({ prompt: "From elsewhere", duration: 30 });
  const page = await open(t);
  await take(page).getByRole("heading", { name: "From elsewhere" }).waitFor();
  await bar(take(page)).waitFor();
});

test("a reload finds finished takes, and none that was put away", async (t) => {
  const page = await open(t);
  await begin(page, "Kept", 1);
  await playable(take(page));
  await page.reload();
  await playable(take(page));
  await choose(take(page), "Put away");
  await page.reload();
  await page.getByText("Nothing here yet").waitFor();
  assert.equal(await takes(page).count(), 0);
});

/** Read the beginning of a stream. */
async function firstEvents(url, count) {
  const response = await fetch(url);
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of response.body) {
    text += decoder.decode(bytes, { stream: true });
    const events = text.split("\n\n");
    if (events.length > count) return `${events.slice(0, count).join("\n\n")}\n\n`;
  }
  throw new Error(`the stream ended after ${text}`);
}
