/** The models that were made here: which are one's own, and what can be done with them. */

import { computed } from "@preact/signals";

import { ask, atField, type Model } from "./api.ts";
import { setValue, valueOf, version, versionOf } from "./form.ts";
import { showComposer } from "./generate.ts";
import { loadModels, models } from "./service.ts";

export const ownFineTunes = computed(() => models.value.filter((model) => model.fine_tune?.is_own));
/** The models that a worker trains. */
export const trainable = computed(() => models.value.filter((model) => model.trainers !== null));

export type Visibility = "private" | "public";

/** Create a model without versions, where it is not one's own already; what is wrong stands at `destination`. */
export async function ensureFineTune(fullName: string): Promise<void> {
  if (ownFineTunes.value.some((model) => model.name === fullName)) return;
  const [owner, name] = fullName.split("/");
  try {
    await send("/v1/models", "POST", { owner, name, visibility: "private", hardware: "any" });
  } catch (error) {
    throw atField("destination", error);
  }
  await loadModels();
}

export async function setVisibility({ name }: Model, visibility: Visibility): Promise<void> {
  await send(`/v1/models/${name}`, "PATCH", { visibility });
  await loadModels();
}

/** Delete a model with all its versions. */
export async function removeFineTune({ name, versions }: Model): Promise<void> {
  for (const id of versions) await send(`/v1/models/${name}/versions/${id}`, "DELETE");
  await send(`/v1/models/${name}`, "DELETE");
  await loadModels();
}

/** Choose a version in the form; `prompt`: what to begin with where nothing is entered. */
export function playWith(name: string, id: string, prompt = ""): void {
  version.value = versionOf(name, id);
  if (!valueOf("prompt")) setValue("prompt", prompt);
  showComposer();
}

async function send(path: string, method: string, json?: unknown): Promise<void> {
  const body = json === undefined ? {} : { body: JSON.stringify(json), headers: { "Content-Type": "application/json" } };
  await ask(path, { method, ...body });
}
