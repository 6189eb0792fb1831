// The pictures of the README, from the real page: two takes of a prompt, light, dark and on a phone. FOLDER: where to.
import path from "node:path";

import { launch } from "./browser.mjs";

const PICTURES = [
  { name: "light", options: { viewport: { width: 1280, height: 1230 }, colorScheme: "light" } },
  { name: "dark", options: { viewport: { width: 1280, height: 1230 }, colorScheme: "dark" } },
  { name: "phone", options: { viewport: { width: 390, height: 844 }, colorScheme: "light", deviceScaleFactor: 2 } },
];

const browser = await launch();
let takes = "";
for (const { name, options } of PICTURES) {
  const context = await browser.newContext({ baseURL: process.env.BASE, ...options });
  const page = await context.newPage();
  await page.goto(`/${takes}`);
  const ready = page.getByRole("list", { name: "Takes" }).getByRole("button", { name: "Download" });
  if (!takes) {
    await page.getByLabel("Prompt").fill("Warm lo-fi piano with soft drums");
    await page.getByRole("radio", { name: "2" }).check({ force: true });
    await page.getByRole("button", { name: "Generate" }).click();
    await ready.nth(1).waitFor({ timeout: 120_000 });
    takes = new URL(page.url()).search + new URL(page.url()).hash;
    await page.reload();
  }
  await ready.nth(1).waitFor({ timeout: 60_000 });
  await page.waitForTimeout(500);
  await page.screenshot({ path: path.join(process.env.FOLDER, `page-${name}.png`) });
  await context.close();
}
await browser.close();
// The hooks of the tests have a browser of their own.
process.exit();
