/** What the form for a training says, and sending it. */

import { computed, effect, signal } from "@preact/signals";

import { atField, messageOf, RequestError, type TrainingRequest, upload } from "./api.ts";
import { TRAINING_FIELDS } from "./fields.ts";
import { fieldsForm } from "./fields_form.ts";
import { ensureFineTune, trainable } from "./fine_tunes.ts";
import { train, trainingOf } from "./trainings.ts";

export const trainingForm = fieldsForm({
  fields: TRAINING_FIELDS,
  others: ["destination", "version"],
  prefix: "training-",
  defaultOf: (name) => (name === "version" ? trainable.value[0]?.name : undefined),
});

export const dataset = signal<File | null>(null);
/** What is being sent now; null: nothing. */
export const sendingTraining = signal<"dataset" | "request" | null>(null);

const inspectionId = signal<string | null>(null);
/** The inspection of what is in the form. */
export const inspection = computed(() => trainingOf(inspectionId.value));

const OWNER = "me";

export function chooseDataset(file: File | null): void {
  dataset.value = file;
  trainingForm.clearError("dataset");
  if (file && !trainingForm.valueOf("destination")) trainingForm.setValue("destination", `${OWNER}/${nameFor(file)}`);
}

/** `My Songs (2).zip` becomes `my-songs-2`. */
function nameFor(file: File): string {
  const stem = file.name.replace(/(\.tar)?\.\w+$/, "").toLowerCase();
  return stem.replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-+|-+$/g, "").slice(0, 60) || "my-songs";
}

/** Look at the dataset without training anything. */
export async function inspect(): Promise<void> {
  await attempt(async () => {
    inspectionId.value = (await train(await requestOn(chosenFile(), { inspect: true }))).id;
  });
}

/** Train; returns whether it was accepted. */
export async function startTraining(): Promise<boolean> {
  return await attempt(async () => {
    const file = chosenFile();
    const destination = nameOf(String(trainingForm.valueOf("destination")).trim());
    const body = await requestOn(file);
    await ensureFineTune(destination);
    await train({ ...body, destination });
  });
}

/** A name alone is one's own. */
function nameOf(text: string): string {
  if (!text) throw missing("destination", "name the model that is to get the result");
  return text.includes("/") ? text : `${OWNER}/${text}`;
}

function chosenFile(): File {
  if (!dataset.value) throw missing("dataset", "choose an archive or an audio file");
  return dataset.value;
}

async function requestOn(file: File, more: { inspect?: boolean } = {}): Promise<TrainingRequest> {
  sendingTraining.value = "dataset";
  const url = await urlOf(file);
  sendingTraining.value = "request";
  const input = { ...trainingForm.entered(), ...more, dataset: url } as TrainingRequest["input"];
  if (!input.description) delete input.description;
  return { version: String(trainingForm.valueOf("version")), input };
}

const uploads = new WeakMap<File, Promise<string>>();

/** Return the URL of a file, which is uploaded once. */
async function urlOf(file: File): Promise<string> {
  const running = uploads.get(file) ?? upload(file);
  uploads.set(file, running);
  try {
    return await running;
  } catch (error) {
    uploads.delete(file);
    throw atField("dataset", error);
  }
}

function missing(field: string, remedy: string): RequestError {
  const problem = { title: "", status: 422, instance: "", detail: remedy };
  return new RequestError(422, remedy, { ...problem, errors: [{ field, message: "is missing", remedy }] });
}

async function attempt(action: () => Promise<void>): Promise<boolean> {
  if (sendingTraining.value) return false;
  trainingForm.clearErrors();
  sendingTraining.value = "request";
  try {
    await action();
    return true;
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    trainingForm.showProblem(error.problem, messageOf(error));
    return false;
  } finally {
    sendingTraining.value = null;
  }
}

const captions = computed(() => `${trainingForm.valueOf("description")} ${trainingForm.valueOf("tempo_and_key")}`);

// A table of another dataset, or with other captions, would mislead.
effect(() => {
  void [dataset.value, captions.value];
  inspectionId.value = null;
});
