/** What serves right now: the models, and whether anything answers. */

import { computed, effect, signal } from "@preact/signals";

import { client, dataOf, type Model, offline, RequestError } from "./api.ts";
import { signedOut } from "./session.ts";

export const models = signal<readonly Model[]>([]);
export const modelsKnown = signal(false);
/** Why the service cannot be used although it answers. */
export const trouble = signal<string | null>(null);

export const defaultModel = computed(() => models.value.find((model) => model.is_default) ?? models.value[0]);

const CALM_MS = 15_000;
const AGAIN_MS = 1_500;

export async function loadModels(): Promise<void> {
  try {
    models.value = (await dataOf(client.GET("/models"))).results;
    modelsKnown.value = true;
    trouble.value = null;
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    trouble.value = error.status === 401 || error.status === 0 ? null : error.message;
  }
}

/** Read the models now and from time to time; often while the service does not answer. */
export function watchService(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const round = async (): Promise<void> => {
    clearTimeout(timer);
    if (!signedOut.value && !document.hidden) await loadModels();
    const soon = offline.value || trouble.value !== null || !ready();
    timer = setTimeout(() => void round(), soon ? AGAIN_MS : CALM_MS);
  };
  void round();
  document.addEventListener("visibilitychange", () => void round());
  addEventListener("online", () => void round());
  effect(() => {
    if (offline.value) {
      clearTimeout(timer);
      timer = setTimeout(() => void round(), AGAIN_MS);
    }
  });
}

function ready(): boolean {
  return models.value.some((model) => model.abilities);
}
