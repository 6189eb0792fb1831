// What holds for the whole page: everybody can use it, on every screen, and it keeps to itself.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import {
  alertOf,
  banner,
  button,
  dialog,
  field,
  generate,
  moreSettings,
  open,
  playable,
  prompt,
  take,
  takes,
  until,
} from "./browser.mjs";
import { assertAccessible, CALM, VIEWS, widerThanTheScreen } from "./looks.mjs";
import { BASE, LOCKED, tone } from "./service.mjs";

const LONG_WORD = "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichenmusik".repeat(2);
const MOST_BYTES = 200_000;
const MOST_SHIFT = 0.05;

/** Go through the states of the page; `check` is called in each of them. */
async function throughAllStates(page, check) {
  await button(page, "Generate").and(page.locator(":enabled")).waitFor();
  await page.getByText("Nothing here yet").waitFor();
  await check("empty");
  await moreSettings(page);
  await page.locator("input[type=file]").setInputFiles(tone(2));
  await field(page, "Continue it").check({ force: true });
  await page.locator("[part~=region]").waitFor();
  await field(page, "Temperature").fill("500");
  await prompt(page).fill(`${LONG_WORD}, and so on`);
  await generate(page);
  await alertOf(page).waitFor();
  await check("error");
  await field(page, "Temperature").fill("1");
  await field(page, "Duration").fill("28");
  await field(page, "MultiBand Diffusion").check({ force: true }); // Slow, so that it is not done before the check is.
  await generate(page);
  await take(page).getByText(/^Step [1-9]\d* of/).waitFor();
  await check("generating");
  await button(take(page), "Cancel").click();
  await take(page).getByText("Cancelled.").waitFor();
  await field(page, "MultiBand Diffusion").uncheck({ force: true });
  await button(page, "Remove the audio").click();
  await field(page, "Duration").fill("1");
  await generate(page);
  await playable(take(page));
  await button(take(page), "Spectrogram").click();
  await take(page).getByRole("img", { name: /^Spectrogram/ }).and(page.locator("[aria-busy=false]")).waitFor();
  await button(page, "Loop").click();
  await check("done");
  await button(take(page), "More").click();
  await check("menu");
  await button(take(page), "Copy the call").click();
  await page.getByRole("tabpanel").waitFor();
  await check("dialog");
  await page.keyboard.press("Escape");
  await dialog(page, "Copy the call").waitFor({ state: "detached" });
}

for (const [name, view] of Object.entries(VIEWS)) {
  test(`axe finds nothing wrong ${name}, in light and dark colours`, async (t) => {
    const page = await open(t, { colorScheme: "light", ...view, ...CALM });
    const failures = [];
    await throughAllStates(page, (state) =>
      assertAccessible(page, state).catch((error) => failures.push(error.message)),
    );
    assert.equal(failures.join("\n\n"), "");
  });

  test(`axe finds nothing wrong ${name} with the sign-in form`, async (t) => {
    const page = await open(t, { base: LOCKED, colorScheme: "light", ...view, ...CALM });
    await field(page, "Token").waitFor();
    await assertAccessible(page, "sign-in");
    await field(page, "Token").fill("wrong");
    await button(page, "Sign in").click();
    await alertOf(page).filter({ hasText: "does not accept" }).waitFor();
    await assertAccessible(page, "wrong token");
  });
}

test("nothing is wider than the screen, at 360 and at 1600 pixels", async (t) => {
  const page = await open(t, CALM);
  const wide = [];
  await throughAllStates(page, async (state) => {
    wide.push(...(await widerThanTheScreen(page, state)));
  });
  assert.deepEqual(wide, []);
});

test("everything can be done by keyboard", async (t) => {
  const page = await open(t, CALM);
  const { keyboard } = page;
  await button(page, "Generate").and(page.locator(":enabled")).waitFor();
  await keyboard.press("Tab");
  assert.equal(await focused(page), "Skip to the form");
  await keyboard.press("Enter");
  await tabTo(page, prompt(page));
  await keyboard.type("By keyboard");
  await tabTo(page, field(page, "Duration"));
  await keyboard.press("ControlOrMeta+a");
  await keyboard.type("1");
  await tabTo(page, button(page, "More settings"));
  await keyboard.press("Enter");
  await tabTo(page, field(page, "Seed"), "Shift+Tab");
  await keyboard.type("3");
  await tabTo(page, button(page, "Generate"));
  await keyboard.press("Enter");
  await takes(page).first().waitFor();
  await playable(take(page));
  await tabTo(page, button(take(page), "Play"));
  await keyboard.press("Enter");
  await until(() => page.evaluate(() => spy.loudest > 0.01), "it is heard");
  await button(take(page), "Play").waitFor();
  await tabTo(page, take(page).getByRole("slider", { name: "Position" }));
  await keyboard.press("ArrowRight");
  await tabTo(page, button(take(page), "More"));
  await keyboard.press("Enter");
  await until(async () => (await focused(page)) === "Again with this seed", "the menu has the focus");
  for (let times = 0; times < 2; times++) await keyboard.press("ArrowDown");
  assert.equal(await focused(page), "Copy the call");
  await keyboard.press("Enter");
  await page.getByRole("tab", { name: "curl" }).waitFor();
  await tabTo(page, page.getByRole("tab", { name: "curl" }));
  await keyboard.press("ArrowRight");
  assert.equal(await focused(page), "Python");
  await keyboard.press("Escape");
  await dialog(page, "Copy the call").waitFor({ state: "detached" });
  assert.equal(await focused(page), "More", "the focus is where it was");
  await keyboard.press("Enter");
  await until(async () => (await focused(page)) === "Again with this seed", "the menu has the focus");
  await keyboard.press("ArrowUp");
  await keyboard.press("Enter");
  await dialog(page, "Delete this take?").waitFor();
  await tabTo(page, button(page, "Delete"));
  await keyboard.press("Enter");
  await page.getByText("Nothing here yet").waitFor();
  await tabTo(page, prompt(page));
  await keyboard.press("Control+Enter");
  await take(page).waitFor();
});

const focused = (page) =>
  page.evaluate(() => (document.activeElement.getAttribute("aria-label") ?? document.activeElement.innerText).trim());

/** Press Tab until an element has the focus; whatever has it on the way must show it. */
async function tabTo(page, target, key = "Tab") {
  const way = [];
  for (let times = 0; times < 80; times++) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press(key);
    way.push(await focused(page));
  }
  assert.fail(`${target} is not reached by ${way.join(" | ")}`);
}

test("the focus is seen, wherever it is", async (t) => {
  const page = await open(t, CALM);
  await button(page, "Generate").and(page.locator(":enabled")).waitFor();
  await moreSettings(page);
  await page.evaluate(() => document.activeElement.blur());
  const unseen = [];
  for (let times = 0; times < 45; times++) {
    await page.keyboard.press("Tab");
    const { name, shown } = await page.evaluate(compareWithoutFocus);
    if (!shown) unseen.push(name);
  }
  assert.deepEqual(unseen, []);
});

/** Runs in the page: whether what has the focus, or what is around it, looks another way without it. */
function compareWithoutFocus() {
  const one = document.activeElement;
  const around = [one, ...one.parentElement.children];
  for (let up = one.parentElement; up && around.length < 12; up = up.parentElement) around.push(up);
  const look = () =>
    around
      .map((each) => {
        const { outline, boxShadow, borderColor, backgroundColor } = getComputedStyle(each);
        return [outline, boxShadow, borderColor, backgroundColor].join();
      })
      .join("\n");
  const focused = look();
  one.blur();
  const shown = one === document.body || look() !== focused;
  one.focus({ focusVisible: true });
  return { name: one.outerHTML.slice(0, 160), shown };
}

test("the page asks no other host, sets no cookie, and keeps to its policy", async (t) => {
  const page = await open(t, CALM);
  const policy = page.response.headers()["content-security-policy"];
  for (const rule of ["default-src 'none'", "script-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"]) {
    assert.ok(policy.split("; ").includes(rule), rule);
  }
  assert.ok(!policy.includes("unsafe"));
  await page.getByRole("heading", { name: "History" }).waitFor();
  await prompt(page).fill("Alone");
  await field(page, "Duration").fill("1");
  await generate(page);
  await playable(take(page));
  const asked = page.requests.map((request) => new URL(request.url())).filter(({ host }) => host);
  assert.deepEqual([...new Set(asked.map(({ origin }) => origin))], [BASE]);
});

test("the policy is in force, and a breach of it is noticed", async (t) => {
  const page = await open(t);
  assert.deepEqual(page.surprises, []);
  await page.evaluate(() => fetch("https://example.invalid/").catch(() => undefined));
  const noticed = (start) => until(() => page.surprises.some((text) => start.test(text)), `it is noticed: ${start}`);
  await noticed(/^securitypolicyviolation/);
  await noticed(/^(Fetch API|Refused|Connecting)/);
  page.surprises.length = 0;
});

test("nothing moves by itself, from the first paint to the finished take", async (t) => {
  const page = await open(t);
  await button(page, "Generate").and(page.locator(":enabled")).waitFor();
  await page.getByRole("list", { name: "Earlier" }).or(page.getByText("What you generate is listed here.")).waitFor();
  await prompt(page).fill("Still");
  await field(page, "Duration").fill("2");
  await generate(page);
  await playable(take(page));
  await page.waitForTimeout(500);
  const shifts = await page.evaluate(() => spy.shifts);
  const sum = shifts.reduce((total, { value }) => total + value, 0);
  assert.ok(sum < MOST_SHIFT, `${sum}: ${JSON.stringify(shifts, null, 1)}`);
});

test("all scripts together are small", async () => {
  const seen = new Map();
  const read = async (path) => {
    if (seen.has(path)) return;
    seen.set(path, 0);
    const text = await (await fetch(new URL(path, BASE))).text();
    if (path !== "/") seen.set(path, gzipSync(Buffer.from(text), { level: 9 }).length);
    for (const [, name] of text.matchAll(/["'/]([\w.]+-[A-Z0-9]{8}\.js)["']/g)) await read(`/page/${name}`);
  };
  await read("/");
  assert.ok(seen.size >= 5, [...seen.keys()].join());
  const bytes = [...seen.values()].reduce((sum, size) => sum + size);
  assert.ok(bytes > 10_000 && bytes < MOST_BYTES, `${bytes} bytes`);
});

test("the page says when the service does not answer, and goes on when it does", async (t) => {
  const page = await open(t);
  await prompt(page).fill("Kept");
  await field(page, "Duration").fill("1");
  await page.route(`${BASE}/**`, (route) => route.abort("connectionrefused"));
  await button(page, "Generate").click();
  await banner(page).waitFor();
  await page.getByText("No answer").waitFor();
  assert.equal(await prompt(page).inputValue(), "Kept");
  await page.unroute(`${BASE}/**`);
  await banner(page).waitFor({ state: "detached" });
  await page.getByText("Ready").waitFor();
  assert.equal(await alertOf(page).count(), 0, "nothing says any longer that there is no answer");
  await button(page, "Generate").click();
  await playable(take(page));
});

test("the page that was opened while nothing answered shows everything once something does", async (t) => {
  const page = await open(t);
  await prompt(page).fill("Later");
  await until(() => page.url().includes("Later"), "the address follows the form");
  let away = true;
  const api = (url) => /^\/(predictions|models)/.test(url.pathname);
  await page.route(api, (route) => (away ? route.abort("connectionrefused") : route.fallback()));
  await page.reload();
  await banner(page).waitFor();
  away = false;
  await banner(page).waitFor({ state: "detached" });
  await page.getByRole("list", { name: "Earlier" }).or(page.getByText("What you generate is listed here.")).waitFor();
  await button(page, "Generate").and(page.locator(":enabled")).waitFor();
});

test("colours are the system's until others are chosen, and the choice is kept", async (t) => {
  const page = await open(t, { colorScheme: "dark" });
  const lightness = () =>
    page.evaluate(() => {
      const context = document.createElement("canvas").getContext("2d");
      context.fillStyle = getComputedStyle(document.documentElement).backgroundColor;
      context.fillRect(0, 0, 1, 1);
      return context.getImageData(0, 0, 1, 1).data[0];
    });
  assert.ok((await lightness()) < 60);
  await button(page, "Light colours").click();
  await until(async () => (await lightness()) > 200, "the page is light");
  await page.reload();
  assert.ok((await lightness()) > 200);
  await button(page, "Dark colours").waitFor();
});
