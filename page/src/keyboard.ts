/** The keys that act on the takes, wherever the focus is, except where they mean something already. */

import { signal } from "@preact/signals";

import { takes } from "./takes.ts";
import { choose, current, hasSound, position, seek, toggle } from "./transport.ts";

/** Keys of one character can be switched off, for those whose tools press them by chance. */
export const shortcuts = signal(true);

const STEP_SECONDS = 1;
const LARGE_STEP_SECONDS = 5;

export function listenForKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (!shortcuts.value || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target as HTMLElement;
    if (isTypedInto(target) || document.querySelector("dialog[open]")) return;
    if (actsOn(event, target)) event.preventDefault();
  });
}

/** Return whether the key did something. */
function actsOn(event: KeyboardEvent, target: HTMLElement): boolean {
  if (/^[1-9]$/.test(event.key)) return chooseAt(Number(event.key) - 1);
  if (current.value === null || !hasSound(current.value)) return false;
  if (event.key === " ") {
    if (target.closest("button, a, summary, label")) return false;
    toggle();
    return true;
  }
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    const step = event.shiftKey ? LARGE_STEP_SECONDS : STEP_SECONDS;
    seek(position() + (event.key === "ArrowLeft" ? -step : step));
    return true;
  }
  return false;
}

function chooseAt(index: number): boolean {
  const take = takes.value[index];
  if (!take || !hasSound(take.id)) return false;
  choose(take.id);
  return true;
}

function isTypedInto(target: HTMLElement): boolean {
  return target.isContentEditable || target.closest("input, textarea, select, [role=tablist]") !== null;
}
