// Training a fine-tune, hearing what came of it, and playing with it. SONGS: a zip of three songs and a picture.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { alertOf, button, dialog, fact, field, generate, MUSIC_MS, notesOf, open, playable, prompt, take, until } from "./browser.mjs";
import { assertAccessible, CALM, VIEWS, widerThanTheScreen } from "./looks.mjs";
import { ask, BASE, ended, LOCKED, newest, TOKEN, uploaded } from "./service.mjs";

const { SONGS } = process.env;
const QUICK = { steps: 2, evaluate_every: 1, batch_size: 1, rank: 2, sample_seconds: 1, description: "a tune" };

const fineTunes = (page) => dialog(page, "Fine-tunes");
const tab = (page, name) => page.getByRole("tab", { name, exact: true });
const trainings = (page) => page.getByRole("list", { name: "Trainings" }).locator("> li");
const ownFineTunes = async () => (await ask("/models")).results.filter(({ fine_tune: own }) => own);
const allTrainings = async () => (await ask("/trainings")).results;

async function openFineTunes(page) {
  await page.getByRole("button", { name: /^(Fine-tunes|Training, \d+ %)$/ }).click();
  await fineTunes(page).waitFor();
}

/** Train by the API; returns the finished training. */
async function trained(name, input = {}) {
  const json = { owner: "me", name, visibility: "private", hardware: "any" };
  await ask("/v1/models", { method: "POST", json });
  const dataset = await uploaded(await readFile(SONGS));
  const order = { destination: `me/${name}`, input: { dataset, ...QUICK, ...input } };
  let training = await ask("/trainings", { method: "POST", json: order });
  while (!ended(training)) {
    await sleep(200);
    training = await ask(`/trainings/${training.id}`);
  }
  assert.equal(training.status, "succeeded", training.error);
  return training;
}

/** Leave the service without trainings and fine-tunes. */
async function clear() {
  for (const { id } of await allTrainings()) await ask(`/trainings/${id}`, { method: "DELETE" });
  for (const { name, versions } of await ownFineTunes()) {
    for (const id of versions) await ask(`/v1/models/${name}/versions/${id}`, { method: "DELETE" });
    await ask(`/v1/models/${name}`, { method: "DELETE" });
  }
}
beforeEach(clear);

test("a zip of songs becomes a fine-tune that is compared and played with", async (t) => {
  const page = await open(t);
  // As many seconds of samples as the test needs.
  await page.route("**/trainings", (route) => {
    if (route.request().method() !== "POST") return route.fallback();
    const body = route.request().postDataJSON();
    return route.continue({ postData: { ...body, input: { ...body.input, sample_seconds: 2, evaluate_every: 1 } } });
  });
  await openFineTunes(page);
  await fineTunes(page).locator("input[type=file]").setInputFiles(SONGS);
  assert.equal(await field(page, "Name").inputValue(), "me/songs");
  await field(page, "Description").fill("a tune");
  await button(page, "Inspect").click();
  await page.getByText("3 pieces, 0:18.0; 1 dropped").waitFor({ timeout: MUSIC_MS });
  const cells = await page.getByRole("table").getByRole("cell").allInnerTexts();
  assert.deepEqual(
    cells.map((cell) => cell.split("\n").join(" ")),
    [
      ...["cover.jpg", "Dropped: neither audio nor captions, by its name"],
      ...["0.wav 0:00.0 – 0:06.0", "a tune"],
      ...["1.wav 0:00.0 – 0:06.0", "a slow tune"],
      ...["2.wav 0:00.0 – 0:06.0", "a tune"],
    ],
  );
  await button(fineTunes(page), "More settings").click();
  await field(page, "Steps").fill("6");
  await field(page, "Rank").fill("2");
  await button(page, "Train").click();
  await trainings(page).waitFor();
  const uploads = page.requests.filter((request) => request.method() === "POST" && request.url() === `${BASE}/files`);
  assert.equal(uploads.length, 1, "the file is sent once");

  await page.reload(); // In the middle of it.
  await page.getByRole("button", { name: /^Training, \d+ %$/ }).waitFor();
  await openFineTunes(page);
  const one = trainings(page).first();
  await one.getByRole("progressbar").waitFor();
  await button(one, "Play with it").waitFor({ timeout: MUSIC_MS });
  const [training] = (await allTrainings()).filter(({ input }) => !input.inspect);
  assert.deepEqual([training.destination, training.input.steps, training.input.rank], ["me/songs", 6, 2]);
  const { before, after: now } = training.output.held_out_loss;
  assert.equal(await fact(one, "Held-out loss"), `${before.toFixed(3)} → ${now.toFixed(3)}`);
  await button(one, "Logs").click();
  await dialog(page, "Logs").getByText("Held-out loss").first().waitFor();
  await page.keyboard.press("Escape");

  const heard = () =>
    page.evaluate(() =>
      [...document.querySelectorAll("audio")].filter((audio) => !audio.paused).map(({ src, currentTime }) => [src, currentTime]),
    );
  const path = (url) => new URL(url).pathname;
  // Slowly, so that none of the two is over before the other is asked for.
  await page.evaluate(() => document.querySelectorAll("audio").forEach((audio) => (audio.defaultPlaybackRate = 0.0625)));
  await button(one, "Before").click();
  const [[first, place]] = await until(async () => {
    const playing = await heard();
    return playing[0]?.[1] > 0.05 && playing;
  }, "the sample plays");
  assert.equal(path(first), path(training.output.samples[0].before));
  await button(one, "After").click();
  const [[second, same]] = await until(async () => {
    const playing = await heard();
    return playing.length === 1 && playing[0][0] !== first && playing[0][1] > 0 && playing;
  }, "the other one plays, and it alone");
  assert.equal(path(second), path(training.output.samples[0].after));
  assert.ok(same >= place, `it goes on: ${same} after ${place}`);

  await button(one, "Play with it").click();
  await fineTunes(page).waitFor({ state: "detached" });
  assert.equal(await field(page, "Model").inputValue(), "me/songs");
  assert.equal(await prompt(page).inputValue(), training.output.samples[0].caption);
  await field(page, "Duration").fill("1");
  await generate(page);
  await playable(take(page));
  const [prediction] = await newest(1);
  assert.equal(`${prediction.model}:${prediction.version}`, training.output.version);
});

test("fine-tunes are shown to everybody, played with, and deleted after a question", async (t) => {
  await trained("kept");
  const page = await open(t);
  await openFineTunes(page);
  await tab(page, "Your fine-tunes").click();
  await page.getByText("1 version, from musicgen-pocket").waitFor();
  await field(page, "For everybody").check({ force: true });
  await until(async () => (await ownFineTunes())[0].fine_tune.visibility === "public", "it is public");
  await button(page, "Delete").click();
  await button(dialog(page, "Delete me/kept?"), "Keep it").click();
  assert.equal((await ownFineTunes()).length, 1);
  await button(page, "Delete").click();
  await button(dialog(page, "Delete me/kept?"), "Delete").click();
  await page.getByText("What you train is listed here.").waitFor();
  assert.deepEqual(await ownFineTunes(), []);
  await tab(page, "Trainings").click();
  await button(trainings(page), "Delete").click();
  await button(dialog(page, "Delete this training?"), "Delete").click();
  await page.getByText("Trainings are listed here").waitFor();
  assert.deepEqual(await allTrainings(), []);
});

test("a training is cancelled, and another one gets the same model", async (t) => {
  const page = await open(t);
  await openFineTunes(page);
  await fineTunes(page).locator("input[type=file]").setInputFiles(SONGS);
  await field(page, "Description").fill("a tune");
  for (let times = 1; times <= 2; times++) {
    await button(page, "Train").click();
    await button(trainings(page).first(), "Cancel").click();
    await until(async () => (await trainings(page).getByText("Cancelled.").count()) === times, "it is cancelled");
    await tab(page, "Train").click();
  }
  assert.equal((await ownFineTunes()).length, 1);
});

test("what is wrong stands at its field", async (t) => {
  const page = await open(t);
  await openFineTunes(page);
  await button(page, "Train").click();
  assert.equal(await alertOf(page).innerText(), "Music is missing: choose an archive or an audio file.");
  await fineTunes(page).locator("input[type=file]").setInputFiles(SONGS);
  await field(page, "Name").fill("");
  await button(page, "Train").click();
  await until(async () => /^Name is missing/.test(await notesOf(field(page, "Name"))), "the name is asked for");
  await field(page, "Name").fill("me/with a space");
  await button(page, "Train").click();
  await until(async () => /^Name cannot be used: name/.test(await notesOf(field(page, "Name"))), "the name is refused");
  await field(page, "Name").fill("wrong");
  await button(fineTunes(page), "More settings").click();
  await field(page, "Steps").fill("0");
  await button(fineTunes(page), "More settings").click(); // Closed: it opens again.
  await button(page, "Train").click();
  await until(async () => /^Steps is 0/.test(await notesOf(field(page, "Steps"))), "the steps are refused");
  assert.ok(await field(page, "Steps").isVisible());
  assert.equal(await trainings(page).count(), 0);
});

test("where no worker trains, the page says what to start", async (t) => {
  const page = await open(t, { base: LOCKED, token: TOKEN });
  await openFineTunes(page);
  await page.getByText("musicgen worker --trainings").waitFor();
  assert.equal(await page.getByRole("form", { name: "Train a fine-tune" }).count(), 0);
});

test("tabs are chosen by keyboard, and the focus comes back", async (t) => {
  const page = await open(t, CALM);
  await page.getByRole("button", { name: "Fine-tunes" }).focus();
  await page.keyboard.press("Enter");
  await fineTunes(page).waitFor();
  await tab(page, "Train").focus();
  await page.keyboard.press("ArrowRight");
  await page.getByText("Trainings are listed here").or(trainings(page).first()).waitFor();
  await page.keyboard.press("ArrowRight");
  await page.getByRole("tabpanel", { name: "Your fine-tunes" }).waitFor();
  await page.keyboard.press("Escape");
  await fineTunes(page).waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.innerText), "Fine-tunes");
});

/** Go through the states of the dialog; `check` is called in each of them. */
async function throughAllStates(page, check) {
  await openFineTunes(page);
  await button(page, "Train").click();
  await alertOf(page).waitFor();
  await check("an error");
  await fineTunes(page).locator("input[type=file]").setInputFiles(SONGS);
  await field(page, "Description").fill("a tune, ".repeat(30));
  await button(fineTunes(page), "More settings").click();
  await button(page, "Inspect").click();
  await page.getByRole("table").waitFor({ timeout: MUSIC_MS });
  await check("inspected");
  await tab(page, "Trainings").click();
  await button(trainings(page), "Play with it").waitFor();
  await check("a training");
  await tab(page, "Your fine-tunes").click();
  await button(page, "Delete").waitFor();
  await check("fine-tunes");
  await button(page, "Delete").click();
  await check("a question");
  await page.keyboard.press("Escape");
}

const MUCH = { description: "a tune, ".repeat(30) };

for (const [name, view] of Object.entries(VIEWS)) {
  test(`axe finds nothing wrong ${name}, in light and dark colours`, async (t) => {
    await trained("seen".repeat(20), MUCH);
    const page = await open(t, { colorScheme: "light", ...view, ...CALM });
    const failures = [];
    await throughAllStates(page, (state) =>
      assertAccessible(page, state).catch((error) => failures.push(error.message)),
    );
    assert.equal(failures.join("\n\n"), "");
  });
}

test("nothing is wider than the screen, at 360 and at 1600 pixels", async (t) => {
  await trained("seen".repeat(20), MUCH);
  const page = await open(t, CALM);
  const wide = [];
  await throughAllStates(page, async (state) => wide.push(...(await widerThanTheScreen(page, state))));
  assert.deepEqual(wide, []);
});
