/** Earlier predictions, page by page, and a search in their prompts. */

import { computed, signal } from "@preact/signals";

import { client, dataOf, messageOf, type Prediction, RequestError } from "./api.ts";

export const earlier = signal<readonly Prediction[]>([]);
export const search = signal("");
export const loading = signal(false);
export const historyError = signal<string | null>(null);
/** The cursor of the next page; null on the last one, undefined before the first. */
const next = signal<string | null | undefined>(undefined);

const PAGE = 20;
/** A search reads further pages by itself until it has found this many, or has read so many pages. */
const ENOUGH = 8;
const MOST_PAGES = 5;

export const found = computed(() => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  return earlier.value.filter((one) => {
    const prompt = promptOf(one).toLowerCase();
    return words.every((word) => prompt.includes(word));
  });
});
export const hasMore = computed(() => typeof next.value === "string");
export const historyKnown = computed(() => next.value !== undefined);

export function promptOf(prediction: Prediction): string {
  const { prompt } = prediction.input;
  return typeof prompt === "string" ? prompt : "";
}

/** Read the first page again. */
export async function refreshHistory(): Promise<void> {
  await guarded(async () => {
    const page = await dataOf(client.GET("/predictions", { params: { query: { limit: PAGE } } }));
    const ids = new Set(page.results.map((one) => one.id));
    const overlaps = earlier.value.some((one) => ids.has(one.id));
    const rest = overlaps ? earlier.value.filter((one) => !ids.has(one.id)) : [];
    earlier.value = [...page.results, ...rest];
    if (!rest.length) next.value = cursorOf(page.next);
  });
  // A search may have been typed before there was anything to read on from.
  await searchFor(search.value);
}

export async function loadMore(): Promise<void> {
  await guarded(async () => {
    if (typeof next.value !== "string") return;
    const query = { limit: PAGE, cursor: next.value };
    const page = await dataOf(client.GET("/predictions", { params: { query } }));
    const known = new Set(earlier.value.map((one) => one.id));
    earlier.value = [...earlier.value, ...page.results.filter((one) => !known.has(one.id))];
    next.value = cursorOf(page.next);
  });
}

/** Search, and read on where little is found. */
export async function searchFor(text: string): Promise<void> {
  search.value = text;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    if (search.value !== text || !text || found.value.length >= ENOUGH || !hasMore.value) return;
    await loadMore();
  }
}

export function forget(id: string): void {
  earlier.value = earlier.value.filter((one) => one.id !== id);
}

export function forgetAll(): void {
  earlier.value = [];
  next.value = undefined;
}

async function guarded(read: () => Promise<void>): Promise<void> {
  loading.value = true;
  historyError.value = null;
  try {
    await read();
  } catch (error) {
    if (!(error instanceof RequestError && error.status === 401)) historyError.value = messageOf(error);
  } finally {
    loading.value = false;
  }
}

function cursorOf(url: string | null): string | null {
  return url ? new URL(url, location.href).searchParams.get("cursor") : null;
}
