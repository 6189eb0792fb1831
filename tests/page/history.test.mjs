// Earlier predictions: page by page, by a search, and opened again.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { button, field, moreSettings, open, playable, prompt, take, takes, until } from "./browser.mjs";
import { ask, cancelAll, made, post } from "./service.mjs";

const SETTINGS = { prompt: "Celesta under water", duration: 1, seed: 77, temperature: 0.8, output_format: "mp3" };
const MANY = 45;

// The one that is opened lies two pages back.
before(async () => {
  await made(SETTINGS);
  for (let number = 1; number <= MANY; number++) {
    const { id } = await post({ prompt: `Sketch ${number}`, duration: 30 });
    await ask(`/predictions/${id}/cancel`, { method: "POST" });
  }
  await cancelAll();
});

const earlier = (page) => page.getByRole("list", { name: "Earlier" });
const items = (page) => earlier(page).getByRole("listitem");

test("older ones are shown page by page, each once", async (t) => {
  const page = await open(t);
  await items(page).first().waitFor();
  assert.equal(await items(page).count(), 20);
  assert.match(await items(page).first().innerText(), new RegExp(`^Sketch ${MANY}\\b[^]*cancelled`));
  for (const count of [40, 46]) {
    await button(page, "Show older ones").click();
    await until(async () => (await items(page).count()) >= count, `${count} are shown`);
  }
  const texts = await items(page).evaluateAll((all) => all.map((one) => one.querySelector("span").textContent));
  const sketches = texts.filter((text) => text.startsWith("Sketch ")).slice(0, MANY);
  assert.deepEqual(
    sketches,
    Array.from({ length: MANY }, (_, index) => `Sketch ${MANY - index}`),
  );
});

test("a search reads on by itself", async (t) => {
  const page = await open(t);
  await items(page).first().waitFor();
  const search = page.getByRole("searchbox", { name: "Find in history" });
  await search.fill("water CELESTA");
  await until(async () => (await items(page).count()) === 1, "it is found");
  assert.match(await items(page).innerText(), /^Celesta under water/);
  await search.fill("no such thing");
  await page.getByText("Nothing found for “no such thing”.").waitFor();
  await search.fill("");
  await until(async () => (await items(page).count()) > 20, "all are listed again");
});

test("a search that is typed before anything is listed reads on too", async (t) => {
  const page = await open(t);
  let answer;
  const typed = new Promise((resolve) => (answer = resolve));
  await page.route(/\/predictions\?limit=20$/, async (route) => {
    await typed;
    await route.continue();
  });
  await page.reload();
  await page.getByRole("searchbox", { name: "Find in history" }).fill("celesta");
  answer();
  await earlier(page).getByRole("button", { name: /^Celesta under water/ }).waitFor();
});

test("one that is opened again plays, and fills the form", async (t) => {
  const page = await open(t);
  await prompt(page).fill("Something else");
  await page.getByRole("searchbox", { name: "Find in history" }).fill("celesta");
  await earlier(page).getByRole("button", { name: /^Celesta under water/ }).click();
  await playable(take(page));
  await moreSettings(page);
  assert.equal(await prompt(page).inputValue(), SETTINGS.prompt);
  assert.equal(await field(page, "Duration").inputValue(), "1");
  assert.equal(await field(page, "Seed").inputValue(), "77");
  assert.equal(await field(page, "Temperature").inputValue(), "0.8");
  assert.equal(await field(page, "Output format").inputValue(), "mp3");
  await button(take(page), "Play").click();
  await until(() => page.evaluate(() => spy.loudest > 0.01), "it is heard");
  // Once more: it is not there twice.
  await earlier(page).getByRole("button", { name: /^Celesta under water/ }).click();
  assert.equal(await takes(page).count(), 1);
});

test("what is made stands in the history at once", async (t) => {
  const page = await open(t);
  await items(page).first().waitFor();
  await prompt(page).fill("The newest of all");
  await field(page, "Duration").fill("30");
  await button(page, "Generate").click();
  await until(async () => (await items(page).first().innerText()).startsWith("The newest of all"), "it is the first");
  assert.match(await items(page).first().innerText(), /waiting|being made/);
});

test("one that failed or was cancelled can be opened and varied", async (t) => {
  const page = await open(t);
  await earlier(page).getByRole("button", { name: new RegExp(`^Sketch ${MANY}\\b`) }).click();
  await take(page).getByText("Cancelled.").waitFor();
  await button(take(page), "Vary").click();
  await take(page).getByRole("progressbar").waitFor();
  assert.equal(await takes(page).count(), 2);
});
