/** What the user has entered, its place in the page's address, and the request that it makes. */

import { computed, effect, signal } from "@preact/signals";

import type { Prediction, PredictionRequest } from "./api.ts";
import { clip, type Clip, clipFromUrl } from "./clip.ts";
import { FIELDS, type Input } from "./fields.ts";
import { fieldsForm, type Values } from "./fields_form.ts";
import { defaultModel, models } from "./service.ts";

export const MAX_TAKES = 4;
const MAX_SEED = FIELDS.get("seed")?.maximum ?? 2 ** 32 - 1;

/** The form's fields; what they have by default is the chosen model's. */
export const musicForm = fieldsForm({
  fields: FIELDS,
  others: ["version"],
  prefix: "",
  defaultOf: (name) => chosenModel.value?.defaults[name],
});
export const { values, fieldErrors, formError, valueOf, setValue, clearError, clearErrors, showProblem } = musicForm;

/** The version that is asked for; empty: the default model. */
export const version = signal("");
export const count = signal(1);
export const live = signal(true);

export const chosenModel = computed(() => {
  const name = version.value.split(":")[0];
  return models.value.find((model) => model.name === name || model.versions.includes(version.value)) ?? defaultModel.value;
});
export const abilities = computed(() => chosenModel.value?.abilities ?? null);
export const longest = computed(() => abilities.value?.max_duration ?? FIELDS.get("duration")?.maximum ?? 30);

/** Return the input as the API takes it; fields that were left alone are left out. `audio` is the clip's URL. */
export function inputOf(audio: string | null): Input {
  const input = musicForm.entered();
  input.prompt ??= "";
  if (!chosenModel.value?.fine_tune) delete input.adapter_strength;
  if (audio !== null) input.input_audio = audio;
  else for (const name of Object.keys(input)) if (name.startsWith("continuation")) delete input[name];
  if (!input.continuation) delete input.continuation_mode;
  return input as Input;
}

/** Return the requests for all takes: the first with the seed that was entered, each further one with the next. */
export function requestsOf(audio: string | null, takes = count.value): PredictionRequest[] {
  const input = inputOf(audio);
  return Array.from({ length: takes }, (_, index) => {
    const own = { ...input };
    if (typeof input.seed === "number" && input.seed >= 0) own.seed = (input.seed + index) % (MAX_SEED + 1);
    return { ...(version.value && { version: version.value }), stream: live.value, input: own };
  });
}

/** Put a prediction's settings into the form; its seed only where asked. */
export function adopt(prediction: Prediction, keep: { seed: boolean; audio: boolean }): void {
  const taken: Record<string, string | boolean> = {};
  version.value = versionOf(prediction.model, prediction.version);
  for (const [name, value] of Object.entries(prediction.input)) {
    if (!FIELDS.has(name) || value === null || value === undefined || name === "input_audio") continue;
    if (name === "seed" && !keep.seed) continue;
    if (name.startsWith("continuation") && !keep.audio) continue;
    const initial = chosenModel.value?.defaults[name] ?? FIELDS.get(name)?.initial;
    if (name !== "prompt" && value === initial) continue;
    taken[name] = typeof value === "boolean" ? value : String(value);
  }
  values.value = taken;
  clearErrors();
  if (keep.audio) {
    const audio = prediction.input.input_audio;
    clip.value = typeof audio === "string" ? clipFromUrl(audio) : null;
  }
}

/** How `version` names a version of a model: as shortly as can be. */
export function versionOf(name: string, id: string): string {
  const model = models.value.find((one) => one.name === name);
  if (!model || (model.is_default && model.versions[0] === id)) return "";
  return model.versions[0] === id ? name : `${name}:${id}`;
}

/** Read the form from the address. */
export function readAddress(): void {
  const found: Record<string, string | boolean> = {};
  const query = new URLSearchParams(location.search);
  for (const [name, value] of query) {
    const field = FIELDS.get(name);
    if (!field || name === "input_audio") continue;
    found[name] = field.type === "boolean" ? value === "true" : value;
  }
  values.value = found;
  version.value = query.get("model") ?? "";
  count.value = Math.min(MAX_TAKES, Math.max(1, Number(query.get("takes")) || 1));
  const audio = query.get("input_audio");
  if (audio && /^https?:/.test(audio)) clip.value = clipFromUrl(audio);
}

/** Keep the address in step with the form, so that it can be shared. */
export function writeAddress(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  effect(() => {
    const query = queryOf(values.value, version.value, count.value, clip.value);
    clearTimeout(timer);
    timer = setTimeout(() => {
      const address = new URL(location.href);
      address.search = query;
      if (address.href !== location.href) history.replaceState(null, "", address);
    }, 250);
  });
}

function queryOf(entered: Values, model: string, takes: number, audio: Clip | null): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(entered)) if (value !== "") query.set(name, String(value));
  if (model) query.set("model", model);
  if (takes > 1) query.set("takes", String(takes));
  if (audio?.file === null && audio.url && !audio.url.startsWith("data:")) query.set("input_audio", audio.url);
  return query.toString();
}
