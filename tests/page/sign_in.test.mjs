// Signing in where the service wants a token.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import {
  alertOf,
  button,
  dialog,
  field,
  generate,
  notesOf,
  open,
  playable,
  prompt,
  take,
  until,
} from "./browser.mjs";
import { ask, BASE, LOCKED, made, TOKEN } from "./service.mjs";

const signInForm = (page) => page.getByRole("form", { name: "Sign in" });
const stored = (page) => page.evaluate(() => ({ session: { ...sessionStorage }, local: { ...localStorage } }));

async function signIn(page, token) {
  await field(page, "Token").fill(token);
  await button(page, "Sign in").click();
}

test("without a token the page asks for one, and shows nothing else", async (t) => {
  const page = await open(t, { base: LOCKED });
  await signInForm(page).waitFor();
  assert.equal(await prompt(page).count(), 0);
  assert.equal(await page.getByRole("heading", { name: "History" }).count(), 0);
  assert.ok(await field(page, "Token").evaluate((element) => element === document.activeElement));
  assert.equal(await field(page, "Token").getAttribute("type"), "password");
  assert.equal(await alertOf(page).count(), 0);
});

test("where no token is wanted, none is asked for", async (t) => {
  const page = await open(t, { base: BASE });
  await button(page, "Generate").waitFor();
  assert.equal(await signInForm(page).count(), 0);
});

test("a wrong token is told", async (t) => {
  const page = await open(t, { base: LOCKED });
  await signIn(page, "wrong");
  await alertOf(page).filter({ hasText: /^The service does not accept this token\.$/ }).waitFor();
  assert.equal(await alertOf(page).count(), 1);
  assert.equal(await field(page, "Token").getAttribute("aria-invalid"), "true");
  assert.match(await notesOf(field(page, "Token")), /does not accept/);
  assert.deepEqual((await stored(page)).session, {});
});

test("while a token is tried, nothing is said to be wrong", async (t) => {
  const page = await open(t, { base: LOCKED });
  await signInForm(page).waitFor();
  await page.route("**/models", async (route) => {
    await sleep(500);
    await route.fallback();
  });
  await signIn(page, TOKEN);
  const alerts = [];
  await until(async () => {
    alerts.push(...(await alertOf(page).allInnerTexts()));
    return button(page, "Generate").isEnabled({ timeout: 100 }).catch(() => false);
  }, "the page is there");
  assert.deepEqual([...new Set(alerts)], []);
});

test("a right token works, and is kept in this tab's storage alone", async (t) => {
  const page = await open(t, { base: LOCKED });
  await signIn(page, "wrong");
  await alertOf(page).filter({ hasText: "does not accept" }).waitFor();
  await signIn(page, TOKEN);
  await prompt(page).fill("Behind a token");
  await field(page, "Duration").fill("1");
  await generate(page);
  await playable(take(page));
  assert.deepEqual(await stored(page), { session: { "musicgen-token": TOKEN }, local: {} });
  assert.ok(!page.url().includes(TOKEN));
  assert.deepEqual(await page.context().cookies(), []);
  const named = page.requests.filter((request) => `${request.url()}${request.postData() ?? ""}`.includes(TOKEN));
  assert.deepEqual(named, [], "it is in no address and no body");
  await page.reload();
  await playable(take(page)); // The tab is still signed in.
});

test("another tab is not signed in", async (t) => {
  const page = await open(t, { base: LOCKED });
  await signIn(page, TOKEN);
  await prompt(page).waitFor();
  const other = await page.context().newPage();
  await other.goto(LOCKED);
  await signInForm(other).waitFor();
});

test("signing out forgets the token and what it saw", async (t) => {
  const { id } = await made({ prompt: "Seen with a token", duration: 1 }, LOCKED);
  const page = await open(t, { base: LOCKED, path: `/#takes=${id}` });
  await signIn(page, TOKEN);
  await playable(take(page));
  await button(page, "More about this service").click();
  await button(page, "Sign out").click();
  await signInForm(page).waitFor();
  assert.deepEqual(await stored(page), { session: {}, local: {} });
  assert.equal(await page.getByText("Seen with a token").count(), 0);
  assert.ok(!page.url().includes(id));
  await page.reload();
  await signInForm(page).waitFor();
  assert.equal(await alertOf(page).count(), 0);
});

test("a token sees its own music alone", async (t) => {
  const { id } = await made({ prompt: "Of the first token", duration: 1 }, LOCKED);
  const page = await open(t, { base: LOCKED, path: `/#takes=${id}` });
  await signIn(page, process.env.OTHER_TOKEN);
  await page.getByText("What you generate is listed here.").waitFor();
  await page.getByText("Nothing here yet").waitFor();
  assert.equal(await page.getByText("Of the first token").count(), 0);
});

test("a token that is withdrawn brings the form back; another one goes on", async (t) => {
  const page = await open(t, { base: LOCKED });
  await signIn(page, TOKEN);
  await prompt(page).fill("Kept while signing in again");
  await field(page, "Duration").fill("1");
  let withdrawn = true;
  const problem = { type: "about:blank", title: "Unauthorized", status: 401, detail: "no", instance: "/" };
  await page.route("**/predictions**", (route) =>
    withdrawn ? route.fulfill({ status: 401, json: problem }) : route.fallback(),
  );
  await button(page, "Generate").click();
  await signInForm(page).waitFor();
  await alertOf(page).filter({ hasText: "does not accept this token" }).waitFor();
  withdrawn = false;
  await signIn(page, TOKEN);
  await prompt(page).waitFor();
  assert.equal(await prompt(page).inputValue(), "Kept while signing in again");
  await generate(page);
  await take(page).waitFor();
});

test("the webhook secret is shown on demand", async (t) => {
  const page = await open(t, { base: LOCKED });
  await signIn(page, TOKEN);
  await button(page, "More about this service").click();
  await button(page, "Webhook secret").click();
  const box = dialog(page, "Webhook secret");
  const { key } = await ask("/v1/webhooks/default/secret", { base: LOCKED });
  const asked = () => page.requests.filter((request) => request.url().endsWith("/secret")).length;
  assert.ok(!(await box.innerText()).includes(key));
  assert.equal(asked(), 0);
  await button(box, "Show it").click();
  await box.getByText(key).waitFor();
  assert.equal(asked(), 1);
  await button(box, "Close").click();
  await box.waitFor({ state: "detached" });
  assert.equal(await page.getByText(key).count(), 0);
});

test("the licences of what the page contains are there", async (t) => {
  const page = await open(t);
  await button(page, "More about this service").click();
  await page.getByRole("link", { name: "Licences" }).click();
  await page.getByText(/preact \d/).waitFor();
});
