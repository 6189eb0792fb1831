// What holds for the page in each of its states: everybody can use it, and it fits every screen.

import assert from "node:assert/strict";
import AxeBuilder from "@axe-core/playwright";

export const CALM = { reducedMotion: "reduce" };
export const VIEWS = {
  "on a desk": { viewport: { width: 1280, height: 900 } },
  "on a phone": { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
};

/** Everything that axe knows in the light, and the colours in the dark too. */
export async function assertAccessible(page, state) {
  const before = page.surprises.length;
  const light = await new AxeBuilder({ page }).analyze();
  await page.emulateMedia({ colorScheme: "dark" });
  const dark = await new AxeBuilder({ page }).withRules(["color-contrast", "link-in-text-block"]).analyze();
  await page.emulateMedia({ colorScheme: "light" });
  // axe itself adds styles, which the policy of the page forbids.
  const others = page.surprises.splice(before).filter((text) => !/style-src/.test(text));
  page.surprises.push(...others);
  const found = [...light.violations, ...dark.violations].flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`),
  );
  assert.deepEqual(found, [], state);
}

/** What sticks out at 360 and at 1600 pixels, with the state. */
export async function widerThanTheScreen(page, state) {
  const wide = [];
  for (const width of [360, 1600]) {
    await page.setViewportSize({ width, height: 800 });
    await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn, 50))));
    const sticking = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      const boxes = [...document.querySelectorAll("body *")].map((one) => [one, one.getBoundingClientRect().right]);
      const outside = boxes.filter(([, right]) => right > clientWidth + 1);
      return scrollWidth <= clientWidth ? [] : outside.map(([one, right]) => `${one.className} ${right}`);
    });
    if (sticking.length) wide.push({ state, width, sticking });
  }
  return wide;
}
