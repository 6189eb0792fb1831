/** The fields of an input: what the OpenAPI document says of them, and how the page names them. */

import { INPUT_FIELDS, TRAINING_FIELDS as OF_A_TRAINING } from "./input.gen.ts";
import type { components } from "./schema.gen.ts";

export type Input = components["schemas"]["Input"];
export type FieldName = keyof Input;
export type Abilities = components["schemas"]["Abilities"];

export interface Field {
  readonly name: string;
  readonly type?: string;
  readonly title?: string;
  readonly description?: string;
  readonly initial?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly choices?: readonly string[];
}

const LABELS: Record<string, string> = {
  prompt: "Prompt",
  input_audio: "Input audio",
  duration: "Duration",
  continuation: "Continue it",
  continuation_mode: "Length covers",
  continuation_start: "From",
  continuation_end: "To",
  multi_band_diffusion: "MultiBand Diffusion",
  normalization_strategy: "Normalization",
  top_k: "Top k",
  top_p: "Top p",
  temperature: "Temperature",
  classifier_free_guidance: "Guidance",
  adapter_strength: "Fine-tune's strength",
  output_format: "Output format",
  seed: "Seed",
  version: "Model",
  dataset: "Music",
  destination: "Name",
  description: "Description",
  tempo_and_key: "Add tempo and key",
  steps: "Steps",
  rank: "Rank",
  learning_rate: "Learning rate",
};

const CHOICE_LABELS: Record<string, string> = {
  loudness: "Loudness, −14 LUFS",
  peak: "Peak",
  clip: "Clip",
  rms: "RMS",
  wav: "WAV, 16 bit",
  mp3: "MP3, 320 kb/s",
  flac: "FLAC, lossless",
  wav24: "WAV, 24 bit",
  extend: "the new music only",
  total: "the clip and the new music",
};

/** Fields that have a place of their own on the page; all others stand among the advanced settings. */
const PLACED = new Set([
  "prompt",
  "input_audio",
  "duration",
  "continuation",
  "continuation_mode",
  "continuation_start",
  "continuation_end",
  "seed",
  "output_format",
]);

const ORDER = ["temperature", "classifier_free_guidance", "top_k", "top_p", "normalization_strategy"];

export const FIELDS: ReadonlyMap<string, Field> = new Map(INPUT_FIELDS.map((field) => [field.name, field]));

export const TRAINING_FIELDS: ReadonlyMap<string, Field> = new Map(OF_A_TRAINING.map((field) => [field.name, field]));

/** The advanced fields; one that is new in the API appears here by itself. */
export const ADVANCED: readonly Field[] = INPUT_FIELDS.filter((field) => !PLACED.has(field.name)).sort(
  (a, b) => rank(a) - rank(b),
);

function rank(field: Field): number {
  const place = ORDER.indexOf(field.name);
  return place < 0 ? ORDER.length : place;
}

export function labelOf(name: string): string {
  return LABELS[name] ?? FIELDS.get(name)?.title ?? name;
}

export function choiceLabel(choice: string): string {
  return CHOICE_LABELS[choice] ?? choice;
}

/** Why the model cannot use the field, or undefined where it can. */
export function reasonAgainst(name: string, abilities: Abilities | null | undefined): string | undefined {
  if (!abilities) return undefined;
  if (name === "multi_band_diffusion" && !abilities.multi_band_diffusion) {
    return "This model has no MultiBand Diffusion decoder.";
  }
  if (name === "continuation" && !abilities.continuation) return "This model does not continue audio here.";
  if (name === "melody" && !abilities.melody) return "This model cannot follow a melody.";
  return undefined;
}
