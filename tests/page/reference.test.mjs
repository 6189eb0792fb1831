// The API's reference at /docs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { button, open } from "./browser.mjs";
import { ask, BASE, LOCKED, TOKEN } from "./service.mjs";

const operation = (page, method, path) =>
  page.locator(".opblock").filter({ has: page.locator(`[data-path="${path}"]`) }).filter({ hasText: method });

async function execute(page, method, path) {
  const block = operation(page, method, path);
  const summary = block.locator(".opblock-summary-control");
  if ((await summary.getAttribute("aria-expanded")) === "false") await summary.click();
  await button(block, "Execute").click();
  const answer = block.locator(".live-responses-table");
  await answer.waitFor();
  return { status: await answer.locator(".response-col_status").last().innerText(), text: await answer.innerText() };
}

test("it shows every operation", async (t) => {
  const page = await open(t, { path: "/docs" });
  await page.locator(".opblock").first().waitFor();
  const { paths } = await ask("/openapi.json");
  const documented = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods)
      .filter((method) => ["get", "post", "put", "patch", "delete"].includes(method))
      .map((method) => `${method.toUpperCase()} ${path}`),
  );
  const shown = await page.locator(".opblock").evaluateAll((blocks) =>
    blocks.map((block) => {
      const method = block.querySelector(".opblock-summary-method").textContent;
      return `${method} ${block.querySelector("[data-path]").dataset.path}`;
    }),
  );
  assert.deepEqual(shown.sort(), documented.sort());
});

test("it is allowed our own files alone", async (t) => {
  const page = await open(t, { path: "/docs" });
  assert.match(page.response.headers()["content-security-policy"], /default-src 'none'; script-src 'self'; /);
  await page.locator(".opblock").first().waitFor();
  const asked = page.requests.map((request) => new URL(request.url())).filter(({ host }) => host);
  assert.deepEqual([...new Set(asked.map(({ origin }) => origin))], [BASE]);
});

test("a request can be tried", async (t) => {
  const page = await open(t, { path: "/docs" });
  const { status, text } = await execute(page, "GET", "/health-check");
  assert.match(status, /^200/);
  assert.match(text, /"status": "ready"/);
});

test("a token can be given, and one of the page is used", async (t) => {
  const page = await open(t, { path: "/docs", base: LOCKED });
  assert.match((await execute(page, "GET", "/models")).status, /^401/);
  await button(page, "Authorize").click();
  const form = page.locator(".auth-container");
  await form.locator("input").fill(TOKEN);
  await form.getByRole("button", { name: /^Apply credentials$|^Authorize$/ }).click();
  await page.locator(".modal-ux").getByRole("button", { name: "Close" }).last().click();
  await button(operation(page, "GET", "/models"), "Execute").click();
  await operation(page, "GET", "/models").getByText(/"is_default": true/).first().waitFor();
  await page.evaluate((token) => sessionStorage.setItem("musicgen-token", token), TOKEN);
  await page.reload();
  assert.match((await execute(page, "GET", "/models")).status, /^200/);
});

test("page and reference lead to each other", async (t) => {
  const page = await open(t);
  await page.getByRole("link", { name: "API reference" }).click();
  await page.locator(".opblock").first().waitFor();
  await page.getByRole("link", { name: "MusicGen" }).first().click();
  await button(page, "Generate").waitFor();
});
