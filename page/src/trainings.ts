/** The trainings of this token, and following those that have not ended. */

import { computed, signal } from "@preact/signals";

import { client, dataOf, messageOf, RequestError, type Training, type TrainingRequest } from "./api.ts";
import { hasEnded } from "./follow.ts";
import { loadModels } from "./service.ts";
import { signedOut } from "./session.ts";

/** Newest first; inspections are among them. */
const all = signal<readonly Training[]>([]);
/** Those that train something. */
export const trainings = computed(() => all.value.filter((training) => !training.input.inspect));
/** The one that is trained now, or is next. */
export const running = computed(() => trainings.value.findLast((training) => !hasEnded(training.status)));
export const trainingsTrouble = signal<string | null>(null);

const ASK_MS = 2_000;
const MOST = 100;

let timer: ReturnType<typeof setTimeout> | undefined;

export function trainingOf(id: string | null): Training | undefined {
  return all.value.find((training) => training.id === id);
}

export async function refreshTrainings(): Promise<void> {
  trainingsTrouble.value = null;
  try {
    all.value = (await dataOf(client.GET("/trainings", { params: { query: { limit: MOST } } }))).results;
  } catch (error) {
    trainingsTrouble.value = messageOf(error);
  }
  followAll();
}

export function forgetTrainings(): void {
  all.value = [];
}

/** Ask for a training or an inspection. Raises RequestError. */
export async function train(body: TrainingRequest): Promise<Training> {
  const training = await dataOf(client.POST("/trainings", { body }));
  all.value = [training, ...all.value];
  followAll();
  return training;
}

export async function cancelTraining(id: string): Promise<void> {
  await act(async () => put(await dataOf(client.POST("/trainings/{training_id}/cancel", pathOf(id)))));
}

/** Delete a training with its samples; the version that it made stays. */
export async function removeTraining(id: string): Promise<void> {
  await act(async () => {
    await dataOf(client.DELETE("/trainings/{training_id}", pathOf(id)));
    drop(id);
  });
}

/** Read a training again; the URLs in it are then new. */
export async function readTraining(id: string): Promise<void> {
  try {
    const training = await dataOf(client.GET("/trainings/{training_id}", pathOf(id)));
    put(training);
    if (training.status === "succeeded") await loadModels();
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    if (error.status === 404) drop(id);
  }
}

/** Ask for those that have not ended, until all have. */
function followAll(): void {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const open = all.value.filter((training) => !hasEnded(training.status));
    if (!open.length || signedOut.value) return;
    await Promise.all(open.map(({ id }) => readTraining(id)));
    followAll();
  }, document.hidden ? ASK_MS * 3 : ASK_MS);
}

function put(training: Training): void {
  all.value = all.value.map((one) => (one.id === training.id ? training : one));
}

function drop(id: string): void {
  all.value = all.value.filter((one) => one.id !== id);
}

async function act(action: () => Promise<void>): Promise<void> {
  trainingsTrouble.value = null;
  try {
    await action();
  } catch (error) {
    trainingsTrouble.value = messageOf(error);
  }
}

function pathOf(id: string) {
  return { params: { path: { training_id: id } } };
}
