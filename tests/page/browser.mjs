// A browser for the tests of the page, and what every test of it has in common. One browser serves one test file, and
// each test has a context of its own. Whatever a test is about, it fails where the page asks another host for
// anything, sets a cookie, breaks its content security policy, or raises an error that nobody catches.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import packaged from "@sparticuz/chromium";
import { chromium } from "playwright-core";

import { BASE, cancelAll, LOCKED } from "./service.mjs";

// These serve hosts without shared memory or sandboxes: one process for everything does not survive the end of a
// context, and without the web's own security there would be nothing to test.
const UNWANTED = ["--single-process", "--disable-web-security", "--allow-running-insecure-content", "--headless"];
const MEDIA = [
  "--autoplay-policy=no-user-gesture-required",
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
];
const PATIENCE_MS = 30_000;
export const MUSIC_MS = 120_000;

let browser;

/** Start the browser named by BROWSER, or the one that comes as a package. */
export async function launch() {
  const args = packaged.args.filter((arg) => !UNWANTED.some((unwanted) => arg.startsWith(unwanted)));
  const executablePath = process.env.BROWSER || (await packaged.executablePath());
  return chromium.launch({ executablePath, args: [...args, ...MEDIA], headless: true });
}

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** Open the page in a context of its own. `token`: what the tab has signed in with. */
export async function open(t, { path = "/", base = BASE, token, ...options } = {}) {
  const context = await browser.newContext({ baseURL: base, viewport: { width: 1280, height: 900 }, ...options });
  const surprises = [];
  t.after(async () => {
    const cookies = await context.cookies();
    if (!t.passed) await screenshot(context, t.name);
    await context.close();
    await Promise.all([cancelAll(BASE), cancelAll(LOCKED)]);
    assert.deepEqual(cookies, []);
    assert.deepEqual(surprises, []);
  });
  await context.addInitScript(listenAndWatch);
  if (token) await context.addInitScript((value) => sessionStorage.setItem("musicgen-token", value), token);
  await context.route(
    (url) => /^(http|ws)s?:$/.test(url.protocol) && url.origin !== new URL(base).origin,
    (route) => {
      surprises.push(`a request to ${route.request().url()}`);
      return route.abort();
    },
  );
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.surprises = surprises;
  page.requests = [];
  page.on("request", (request) => page.requests.push(request));
  page.on("pageerror", (error) => surprises.push(`an error: ${error.stack ?? error}`));
  page.on("console", (message) => {
    if (/content.security.policy|securitypolicyviolation/i.test(message.text())) surprises.push(message.text());
  });
  page.response = await page.goto(path);
  return page;
}

async function screenshot(context, name) {
  const [page] = context.pages();
  await mkdir("failed", { recursive: true });
  const path = `failed/${name.replaceAll(/[^\w]+/g, "-").slice(0, 80)}.png`;
  await page?.screenshot({ path, fullPage: true, timeout: 5_000 }).catch(() => undefined);
}

/** Runs in the page before its own scripts: what is played, what moves by itself, and what the policy forbids. */
function listenAndWatch() {
  const spy = { contexts: [], starts: [], shifts: [] };
  const ears = new WeakMap();
  window.spy = spy;
  window.AudioContext = class extends AudioContext {
    constructor(...options) {
      super(...options);
      spy.contexts.push(this);
    }
  };
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode && this.context instanceof AudioContext) {
      if (!ears.has(this.context)) ears.set(this.context, new AnalyserNode(this.context, { fftSize: 32_768 }));
      connect.call(this, ears.get(this.context));
    }
    return connect.call(this, target, ...rest);
  };
  /** The largest sample that has gone to the loudspeaker. */
  spy.loudest = 0;
  setInterval(() => {
    for (const context of spy.contexts) {
      if (!ears.has(context)) continue;
      const samples = new Float32Array(ears.get(context).fftSize);
      ears.get(context).getFloatTimeDomainData(samples);
      for (const sample of samples) spy.loudest = Math.max(spy.loudest, Math.abs(sample));
    }
  }, 200);
  const start = AudioBufferSourceNode.prototype.start;
  AudioBufferSourceNode.prototype.start = function (when = 0, offset = 0, ...rest) {
    const peak = this.buffer.getChannelData(0).reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    const { loop, loopStart, loopEnd } = this;
    const now = this.context.currentTime;
    spy.starts.push({ now, when, offset, seconds: this.buffer.duration, peak, loop, loopStart, loopEnd });
    return start.call(this, when, offset, ...rest);
  };
  document.addEventListener("securitypolicyviolation", (event) => {
    console.error(`securitypolicyviolation: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
  });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const moved = entry.sources.map(({ node }) => (node?.outerHTML ?? node?.nodeName ?? "").slice(0, 120));
      if (!entry.hadRecentInput) spy.shifts.push({ value: entry.value, at: entry.startTime, moved });
    }
  }).observe({ type: "layout-shift", buffered: true });
}

/** Wait until what `check` returns is true, and return it. */
export async function until(check, what = String(check), milliseconds = PATIENCE_MS) {
  const end = Date.now() + milliseconds;
  for (;;) {
    const value = await check();
    if (value) return value;
    assert.ok(Date.now() < end, `not within ${milliseconds} ms: ${what}`);
    await sleep(50);
  }
}

export const button = (within, name) => within.getByRole("button", { name, exact: true });
export const prompt = (page) => page.getByRole("textbox", { name: "Prompt", exact: true });
export const field = (page, name) => page.getByLabel(name, { exact: true });
export const alertOf = (page) => page.getByRole("alert");
export const banner = (page) => page.getByRole("alert").filter({ hasText: "What you entered is kept" });
export const dialog = (page, name) => page.getByRole("dialog", { name });
export const takes = (page) => page.getByRole("list", { name: "Takes" }).locator("> li");

/** One of the takes; the newest is the first. */
export const take = (page, index = 0) => takes(page).nth(index);

/** Press Generate; returns the bodies of the requests that this sends. */
export async function generate(page, count = 1) {
  const before = posted(page).length;
  await button(page, "Generate").click();
  await until(() => posted(page).length >= before + count, `${count} requests are sent`);
  return posted(page).slice(before);
}

const posted = (page) =>
  page.requests
    .filter((request) => request.method() === "POST" && new URL(request.url()).pathname === "/predictions")
    .map((request) => request.postDataJSON());

/** Wait until a take can be played. */
export async function playable(one) {
  await one.getByRole("button", { name: "Play", exact: true, disabled: false }).waitFor({ timeout: MUSIC_MS });
  await one.getByRole("slider", { name: "Position" }).waitFor();
}

/** Show all fields. */
export async function moreSettings(page) {
  const more = button(page, "More settings");
  if ((await more.getAttribute("aria-expanded")) !== "true") await more.click();
}

/** Choose from a take's menu. */
export async function choose(one, item) {
  await button(one, "More").click();
  await button(one, item).click();
}

/** Seconds from the beginning, as the take shows them. */
export async function position(one) {
  const text = await one.getByText(/^\d+:\d\d\.\d \/ \d+:\d\d\.\d$/).innerText();
  const [, minutes, seconds] = text.match(/^(\d+):(\d\d\.\d)/);
  return 60 * Number(minutes) + Number(seconds);
}

/** A fact below a take's waveform, by its name. */
export const fact = (one, name) => one.getByRole("term").filter({ hasText: name }).locator("+ dd").innerText();

/** The text of the notes that a field is described by. */
export async function notesOf(control) {
  return control.evaluate((element) =>
    (element.getAttribute("aria-describedby") ?? "")
      .split(" ")
      .map((id) => document.getElementById(id)?.textContent ?? "")
      .join(" "),
  );
}
