// Making music with the form.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  alertOf,
  button,
  fact,
  field,
  generate,
  moreSettings,
  notesOf,
  open,
  playable,
  position,
  prompt,
  take,
  takes,
  until,
} from "./browser.mjs";
import { BASE, newest, tone } from "./service.mjs";

test("a prompt becomes music that is heard", async (t) => {
  const page = await open(t);
  await prompt(page).fill("Calm piano");
  await field(page, "Duration").fill("2");
  const [body] = await generate(page);
  assert.deepEqual(body.input, { prompt: "Calm piano", duration: 2 });
  await playable(take(page));
  await button(take(page), "Play").click();
  await button(take(page), "Pause").waitFor();
  await until(async () => (await position(take(page))) > 0.3, "the position moves");
  await until(() => page.evaluate(() => spy.loudest > 0.01), "there is sound at the loudspeaker");
  const { states, starts } = await page.evaluate(() => ({
    states: spy.contexts.map((context) => context.state),
    starts: spy.starts,
  }));
  assert.deepEqual(states, ["running"]);
  assert.ok(starts[0].peak > 0.05);
  assert.ok(Math.abs(starts[0].seconds - 2) < 0.05);
  await button(take(page), "Play").waitFor(); // It stops at the music's end.
});

test("every field reaches the service", async (t) => {
  const page = await open(t);
  const values = {
    Prompt: "Everything set",
    Duration: "3",
    Seed: "1234",
    Temperature: "0.85",
    Guidance: "4",
    "Top k": "100",
    "Top p": "0.5",
  };
  await moreSettings(page);
  for (const [name, value] of Object.entries(values)) await field(page, name).fill(value);
  await field(page, "Output format").selectOption("mp3");
  await field(page, "Normalization").selectOption("peak");
  await field(page, "MultiBand Diffusion").check({ force: true });
  await page.locator("input[type=file]").setInputFiles(tone());
  await field(page, "Continue it").check({ force: true });
  await field(page, "From").fill("1");
  await field(page, "To").fill("2");
  await page.getByLabel(/^Length/).selectOption("total");
  const [body] = await generate(page);
  await take(page).waitFor();
  const [prediction] = await newest(1);
  const { input_audio: audio, ...input } = prediction.input;
  assert.deepEqual(input, {
    prompt: "Everything set",
    duration: 3,
    seed: 1234,
    temperature: 0.85,
    classifier_free_guidance: 4,
    top_k: 100,
    top_p: 0.5,
    output_format: "mp3",
    normalization_strategy: "peak",
    multi_band_diffusion: true,
    continuation: true,
    continuation_start: 1,
    continuation_end: 2,
    continuation_mode: "total",
  });
  assert.deepEqual(body.input, prediction.input);
  assert.ok(audio.startsWith(`${BASE}/files/`));
});

test("a field that is new in the API has a place on the page", async (t) => {
  const page = await open(t);
  await moreSettings(page);
  const { paths, components } = await (await fetch(`${BASE}/openapi.json`)).json();
  assert.ok(paths["/predictions"]);
  const ids = await page.locator("[id^=field-]").evaluateAll((all) => all.map(({ id }) => id.replace("field-", "")));
  await page.locator("input[type=file]").setInputFiles(tone());
  await field(page, "Continue it").check({ force: true });
  ids.push(...(await page.locator("[id^=field-]").evaluateAll((all) => all.map(({ id }) => id.replace("field-", "")))));
  const missing = Object.keys(components.schemas.Input.properties).filter((name) => !ids.includes(name));
  assert.deepEqual(missing, ["continuation", "adapter_strength"]); // A choice of two; and for fine-tunes alone.
});

test("what is wrong stands at its field", async (t) => {
  const page = await open(t);
  await prompt(page).fill("Wrong on purpose");
  await moreSettings(page);
  await field(page, "Temperature").fill("500");
  await moreSettings(page);
  await button(page, "More settings").click(); // Closed: it opens again where something in it is wrong.
  await generate(page);
  const temperature = field(page, "Temperature");
  await until(async () => (await temperature.getAttribute("aria-invalid")) === "true", "the field is marked");
  const told = await notesOf(temperature);
  assert.match(told, /^Temperature is 500: .*less than or equal to 100/);
  assert.equal(await alertOf(page).innerText(), told);
  assert.ok(await temperature.isVisible());
  await until(() => temperature.evaluate((element) => element === document.activeElement), "the field has the focus");
  assert.equal(await takes(page).count(), 0);
  await temperature.fill("1.1");
  assert.equal(await alertOf(page).count(), 0);
});

test("what is wrong with no field in particular stands at the form", async (t) => {
  const page = await open(t);
  const problem = { type: "about:blank", title: "Full", status: 503, detail: "The queue is full.", instance: "/" };
  await page.route("**/predictions", (route) =>
    route.request().method() === "POST"
      ? route.fulfill({ status: 503, contentType: "application/problem+json", json: problem })
      : route.fallback(),
  );
  await prompt(page).fill("Too much");
  await generate(page);
  assert.equal((await alertOf(page).innerText()).trim(), "The queue is full.");
  assert.equal(await prompt(page).inputValue(), "Too much");
});

test("what the model cannot do is disabled, and the page says why", async (t) => {
  const page = await open(t);
  await page.route("**/models", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    Object.assign(json.results[0].abilities, { melody: false, multi_band_diffusion: false, max_duration: 20 });
    await route.fulfill({ response, json });
  });
  await page.reload();
  await moreSettings(page);
  const diffusion = field(page, "MultiBand Diffusion");
  await until(() => diffusion.isDisabled(), "MultiBand Diffusion is disabled");
  assert.match(await notesOf(diffusion), /no MultiBand Diffusion decoder/);
  await page.locator("input[type=file]").setInputFiles(tone());
  assert.ok(await field(page, "Follow its melody").isDisabled());
  assert.ok(await field(page, "Continue it").isChecked());
  assert.ok(await page.getByText("This model cannot follow a melody.").isVisible());
  assert.equal(await field(page, "Duration").getAttribute("max"), "20");
});

test("another model can be chosen", async (t) => {
  const page = await open(t);
  await page.route("**/models", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    json.results.push({ ...json.results[0], name: "local/other", is_default: false, workers: 0 });
    await route.fulfill({ response, json });
  });
  await page.reload();
  assert.equal(await page.getByText(/^No worker serves/).count(), 0);
  await field(page, "Model").selectOption("local/other");
  assert.match(await notesOf(field(page, "Model")), /^No worker serves it right now/);
  await prompt(page).fill("Another model");
  const [body] = await generate(page);
  assert.equal(body.version, "local/other");
  // There is none of this name: the service says so, and the page says it at the field.
  await until(async () => (await field(page, "Model").getAttribute("aria-invalid")) === "true", "the field is marked");
  assert.match(await notesOf(field(page, "Model")), /local\/other is not served/);
});

test("two takes at once have two seeds", async (t) => {
  const page = await open(t);
  await prompt(page).fill("Two of them");
  await field(page, "Duration").fill("1");
  await page.getByRole("group", { name: "How many" }).getByLabel("2").check({ force: true });
  const bodies = await generate(page, 2);
  assert.ok(bodies.every(({ input }) => !("seed" in input)));
  await playable(take(page, 0));
  await playable(take(page, 1));
  const seeds = [await fact(take(page, 0), "Seed"), await fact(take(page, 1), "Seed")];
  assert.ok(seeds.every((seed) => /^\d+$/.test(seed)));
  assert.notEqual(seeds[0], seeds[1]);
});

test("two takes of a chosen seed have this one and the next", async (t) => {
  const page = await open(t);
  await prompt(page).fill("Two of them");
  await moreSettings(page);
  await field(page, "Seed").fill("4294967295");
  await page.getByRole("group", { name: "How many" }).getByLabel("2").check({ force: true });
  const bodies = await generate(page, 2);
  assert.deepEqual(
    bodies.map(({ input }) => input.seed),
    [4_294_967_295, 0],
  );
});

test("an example fills the prompt", async (t) => {
  const page = await open(t);
  const example = page.getByRole("list", { name: "Examples" }).getByRole("button").nth(1);
  const text = await example.innerText();
  await example.click();
  assert.equal(await prompt(page).inputValue(), text);
  const [body] = await generate(page);
  assert.equal(body.input.prompt, text);
});

test("the form is in the address and comes back with it", async (t) => {
  const page = await open(t);
  await prompt(page).fill("Harp & choir, 100% ☀");
  await field(page, "Duration").fill("5");
  await moreSettings(page);
  await field(page, "Seed").fill("99");
  await field(page, "Output format").selectOption("mp3");
  await field(page, "MultiBand Diffusion").check({ force: true });
  await page.getByRole("group", { name: "How many" }).getByLabel("3").check({ force: true });
  await until(() => new URL(page.url()).searchParams.get("takes") === "3", "the address follows the form");
  await page.reload();
  await moreSettings(page);
  assert.equal(await prompt(page).inputValue(), "Harp & choir, 100% ☀");
  assert.equal(await field(page, "Duration").inputValue(), "5");
  assert.equal(await field(page, "Seed").inputValue(), "99");
  assert.equal(await field(page, "Output format").inputValue(), "mp3");
  assert.ok(await field(page, "MultiBand Diffusion").isChecked());
  assert.ok(await page.getByRole("group", { name: "How many" }).getByLabel("3").isChecked());
});
