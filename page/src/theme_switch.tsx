import { signal } from "@preact/signals";

import { Icon } from "./icons.tsx";
import { isDark, storeTheme } from "./theme.ts";

/** Changes when the colours do; what is drawn on a canvas is drawn again then. */
export const colours = signal(isDark());

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (colours.value = isDark()));

export function ThemeSwitch() {
  const dark = colours.value;
  const toggle = (): void => {
    storeTheme(dark ? "light" : "dark");
    colours.value = isDark();
  };
  const name = dark ? "Light colours" : "Dark colours";
  return (
    <button type="button" class="icon-button" aria-label={name} title={name} onClick={toggle}>
      <Icon name={dark ? "sun" : "moon"} />
    </button>
  );
}
