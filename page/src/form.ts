/** What the user has entered, its place in the page's address, and the request that it makes. */

import { computed, effect, signal } from "@preact/signals";

import type { Prediction, PredictionRequest, Problem } from "./api.ts";
import { clip, type Clip, clipFromUrl } from "./clip.ts";
import { FIELDS, type Input, labelOf } from "./fields.ts";
import { defaultModel, models } from "./service.ts";

export type Values = Readonly<Record<string, string | boolean>>;

export const MAX_TAKES = 4;
const MAX_SEED = FIELDS.get("seed")?.maximum ?? 2 ** 32 - 1;

/** What stands in the fields; a field that the user has not touched is missing. */
export const values = signal<Values>({});
/** The version that is asked for; empty: the default model. */
export const version = signal("");
export const count = signal(1);
export const live = signal(true);

export const fieldErrors = signal<Readonly<Record<string, string>>>({});
export const formError = signal<string | null>(null);

export const chosenModel = computed(() => {
  const name = version.value.split(":")[0];
  return models.value.find((model) => model.name === name || model.versions.includes(version.value)) ?? defaultModel.value;
});
export const abilities = computed(() => chosenModel.value?.abilities ?? null);
export const longest = computed(() => abilities.value?.max_duration ?? FIELDS.get("duration")?.maximum ?? 30);

/** What a field has: the user's value, else the model's default, else the API's. */
export function valueOf(name: string): string | boolean {
  const entered = values.value[name];
  if (entered !== undefined) return entered;
  const initial = chosenModel.value?.defaults[name] ?? FIELDS.get(name)?.initial;
  if (typeof initial === "boolean") return initial;
  return initial === undefined || initial === null ? "" : String(initial);
}

export function setValue(name: string, value: string | boolean): void {
  values.value = { ...values.value, [name]: value };
  clearError(name);
}

export function clearError(name: string): void {
  if (!(name in fieldErrors.value)) return;
  const { [name]: _, ...others } = fieldErrors.value;
  fieldErrors.value = others;
}

/** Show what the service says is wrong, at the fields that it names. */
export function showProblem(problem: Problem | undefined, message: string): void {
  const errors: Record<string, string> = {};
  const rest: string[] = [];
  for (const { field, message: wrong, remedy } of problem?.errors ?? []) {
    const name = field.replace(/^input\./, "");
    if (FIELDS.has(name) || name === "version") errors[name] = `${sentence(name, wrong)}: ${remedy}.`;
    else rest.push(`${sentence(name, wrong)}: ${remedy}.`);
  }
  fieldErrors.value = errors;
  formError.value = rest.length ? rest.join(" ") : Object.keys(errors).length ? null : message;
}

function sentence(name: string, wrong: string): string {
  const label = name === "version" ? "Model" : labelOf(name);
  if (/^(is|needs|has|should|must|cannot)\b/.test(wrong)) return `${label} ${wrong}`;
  // A name that begins the sentence, such as a model's, stays as it is.
  return /^[a-z]+[ ,]/.test(wrong) ? wrong[0]!.toUpperCase() + wrong.slice(1) : wrong;
}

/** Return the input as the API takes it; fields that were left alone are left out. `audio` is the clip's URL. */
export function inputOf(audio: string | null): Input {
  const input: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(values.value)) {
    const type = FIELDS.get(name)?.type;
    if (type === "integer" || type === "number") {
      if (value !== "") input[name] = Number(value);
    } else {
      input[name] = value;
    }
  }
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
  version.value = versionOf(prediction);
  for (const [name, value] of Object.entries(prediction.input)) {
    if (!FIELDS.has(name) || value === null || value === undefined || name === "input_audio") continue;
    if (name === "seed" && !keep.seed) continue;
    if (name.startsWith("continuation") && !keep.audio) continue;
    const initial = chosenModel.value?.defaults[name] ?? FIELDS.get(name)?.initial;
    if (name !== "prompt" && value === initial) continue;
    taken[name] = typeof value === "boolean" ? value : String(value);
  }
  values.value = taken;
  fieldErrors.value = {};
  formError.value = null;
  if (keep.audio) {
    const audio = prediction.input.input_audio;
    clip.value = typeof audio === "string" ? clipFromUrl(audio) : null;
  }
}

function versionOf(prediction: Prediction): string {
  const model = models.value.find((one) => one.name === prediction.model);
  if (!model || (model.is_default && model.versions[0] === prediction.version)) return "";
  return model.versions[0] === prediction.version ? model.name : `${model.name}:${prediction.version}`;
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
