/** The takes on the bench: predictions that are made, and those that were reopened. */

import { batch, type Signal, signal } from "@preact/signals";

import {
  client,
  dataOf,
  messageOf,
  type Prediction,
  type PredictionRequest,
  RequestError,
} from "./api.ts";
import { follow, hasEnded } from "./follow.ts";
import { type Chunk, listening, livePosition, LiveSound, stopListening } from "./live_sound.ts";
import type { ServerEvent } from "./sse.ts";
import { addSound, choose, play, playing, position, removeSound, seek } from "./transport.ts";

export interface Progress {
  readonly completed_steps: number;
  readonly total_steps: number;
  readonly fraction: number;
}

export interface Take {
  readonly id: string;
  readonly prediction: Signal<Prediction>;
  readonly progress: Signal<Progress | null>;
  readonly logs: Signal<string>;
  /** Why it cannot be followed, cancelled, or heard. */
  readonly trouble: Signal<string | null>;
  readonly buffer: Signal<AudioBuffer | null>;
  /** Whether its spectrogram is open. */
  readonly spectrogram: Signal<boolean>;
  readonly sound: LiveSound;
  readonly stop: AbortController;
  blob: Blob | null;
}

/** As many as there are number keys. */
const MOST = 9;

export const takes = signal<readonly Take[]>([]);

/** Ask for music. Raises RequestError; nothing is shown then. */
export async function create(requests: readonly PredictionRequest[]): Promise<void> {
  const made: Prediction[] = [];
  try {
    for (const body of requests) {
      const headers = { params: { header: { "idempotency-key": randomKey() } } };
      made.push(await dataOf(client.POST("/predictions", { ...headers, body })));
    }
  } finally {
    show(made);
  }
}

/** `crypto.randomUUID` is missing where the page comes over plain http from another machine. */
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Generate it again: same input, seed and model version. */
export async function rerun(id: string): Promise<void> {
  const path = { params: { path: { prediction_id: id } } };
  show([await dataOf(client.POST("/predictions/{prediction_id}/rerun", { ...path, body: { stream: true } }))]);
}

/** Put predictions at the top of the bench. */
export function show(predictions: readonly Prediction[]): void {
  const known = new Map(takes.value.map((take) => [take.id, take]));
  const top = predictions.map((prediction) => known.get(prediction.id) ?? open(prediction));
  const rest = takes.value.filter((take) => !top.includes(take));
  const kept = [...top, ...rest].slice(0, MOST);
  const dropped = rest.filter((take) => !kept.includes(take));
  batch(() => {
    takes.value = kept;
    dropped.forEach(close);
  });
  remember();
}

export function takeOf(id: string | null): Take | undefined {
  return takes.value.find((take) => take.id === id);
}

/** Take it off the bench; the service keeps it. */
export function putAway(id: string): void {
  const take = takeOf(id);
  if (!take) return;
  takes.value = takes.value.filter((other) => other !== take);
  close(take);
  remember();
}

export function putAllAway(): void {
  const all = takes.value;
  takes.value = [];
  all.forEach(close);
  remember();
}

export async function cancel(take: Take): Promise<void> {
  const path = { params: { path: { prediction_id: take.id } } };
  await act(take, async () => update(take, await dataOf(client.POST("/predictions/{prediction_id}/cancel", path))));
}

/** Delete it from the service, with its audio. */
export async function remove(take: Take): Promise<boolean> {
  const path = { params: { path: { prediction_id: take.id } } };
  return await act(take, async () => {
    try {
      await dataOf(client.DELETE("/predictions/{prediction_id}", path));
    } catch (error) {
      if (!(error instanceof RequestError && error.status === 404)) throw error; // Gone already.
    }
    putAway(take.id);
  });
}

async function act(take: Take, action: () => Promise<void>): Promise<boolean> {
  take.trouble.value = null;
  try {
    await action();
    return true;
  } catch (error) {
    take.trouble.value = messageOf(error);
    return false;
  }
}

function open(prediction: Prediction): Take {
  const take: Take = {
    id: prediction.id,
    prediction: signal(prediction),
    progress: signal(prediction.progress),
    logs: signal(prediction.logs),
    trouble: signal(null),
    buffer: signal(null),
    spectrogram: signal(false),
    sound: new LiveSound(),
    stop: new AbortController(),
    blob: null,
  };
  if (hasEnded(prediction.status)) update(take, prediction);
  else void followTake(take);
  return take;
}

function close(take: Take): void {
  take.stop.abort();
  if (listening.value === take.id) stopListening();
  removeSound(take.id);
}

async function followTake(take: Take): Promise<void> {
  const follower = {
    event: (event: ServerEvent) => apply(take, event),
    snapshot: (prediction: Prediction) => update(take, prediction),
    lost: (error: RequestError) => {
      if (error.status !== 401) take.trouble.value = error.message;
    },
  };
  await follow(take.id, follower, take.stop.signal);
}

/** Follow again what stopped because the token was refused. */
export function resume(): void {
  for (const take of takes.value) if (!hasEnded(take.prediction.value.status)) void followTake(take);
}

function apply(take: Take, event: ServerEvent): void {
  const prediction = take.prediction.value;
  if (event.event === "progress") take.progress.value = JSON.parse(event.data) as Progress;
  else if (event.event === "logs") appendLogs(take, event.data);
  else if (event.event === "audio") void hear(take, JSON.parse(event.data) as Chunk);
  else if (event.event === "status") {
    const { status } = JSON.parse(event.data) as Pick<Prediction, "status">;
    // Only what has metrics and output is shown as finished: the last snapshot brings them.
    if (!hasEnded(status)) take.prediction.value = { ...prediction, status };
    if (status === "starting") take.progress.value = null;
  }
}

function appendLogs(take: Take, text: string): void {
  // A snapshot may have brought these lines already.
  if (!take.logs.value.includes(text.trimEnd())) take.logs.value += text.endsWith("\n") ? text : `${text}\n`;
}

async function hear(take: Take, chunk: Chunk): Promise<void> {
  try {
    await take.sound.add(chunk);
  } catch (error) {
    console.warn("A live chunk could not be read; the finished audio will be complete.", error);
  }
}

function update(take: Take, prediction: Prediction): void {
  if (hasEnded(take.prediction.value.status) && take.buffer.value) return;
  batch(() => {
    take.prediction.value = prediction;
    take.logs.value = prediction.logs;
    const known = take.progress.value?.completed_steps ?? -1;
    if (prediction.progress && prediction.progress.completed_steps > known) take.progress.value = prediction.progress;
  });
  if (!hasEnded(prediction.status)) return;
  take.sound.complete.value = true;
  if (prediction.output) void loadAudio(take, prediction);
}

async function loadAudio(take: Take, prediction: Prediction): Promise<void> {
  if (take.blob || !prediction.output) return;
  try {
    const response = await fetch(prediction.output, { signal: take.stop.signal });
    if (!response.ok) throw new Error(`The audio could not be read: the storage answered ${response.status}.`);
    take.blob = await response.blob();
    const buffer = await decode(await take.blob.arrayBuffer());
    if (take.stop.signal.aborted) return;
    take.buffer.value = buffer;
    const loudness = prediction.metrics.loudness;
    addSound(take.id, { buffer, loudness: typeof loudness === "number" ? loudness : null });
    if (listening.value === take.id) goOn(take.id);
    else chooseFirst();
  } catch (error) {
    if (take.stop.signal.aborted) return;
    // A TypeError comes from fetch: no answer, or one that this page may not read.
    const why = error instanceof TypeError ? "The storage does not let this page read the audio." : messageOf(error);
    take.trouble.value = `${why} You can still play it below.`;
  }
}

/** Who listens live goes on at the same place in the finished music. */
function goOn(id: string): void {
  const at = livePosition();
  stopListening();
  choose(id);
  seek(at);
  play(id);
}

/** While nothing plays and nothing has been played, the uppermost take is the current one. */
function chooseFirst(): void {
  const first = takes.value.find((take) => take.buffer.value);
  if (first && !playing.value && position() === 0) choose(first.id);
}

const ANY_RATE = 48_000;

export function decode(bytes: ArrayBuffer): Promise<AudioBuffer> {
  return new OfflineAudioContext(2, 1, ANY_RATE).decodeAudioData(bytes);
}

/** Keep the takes' ids in the address, so that a reload finds them again. */
function remember(): void {
  const address = new URL(location.href);
  address.hash = takes.value.length ? `takes=${takes.value.map((take) => take.id).join(",")}` : "";
  history.replaceState(null, "", address);
}

/** Find the takes of before a reload: by the address, else those of the list that are still being made. */
export async function recall(): Promise<void> {
  const ids = new URLSearchParams(location.hash.slice(1)).get("takes")?.split(",").filter(Boolean) ?? [];
  const found = ids.length ? await readAll(ids.slice(0, MOST)) : await unfinished();
  if (found.length) show(found);
}

async function readAll(ids: readonly string[]): Promise<Prediction[]> {
  const answers = ids.map(async (id) => {
    try {
      return await dataOf(client.GET("/predictions/{prediction_id}", { params: { path: { prediction_id: id } } }));
    } catch (error) {
      if (error instanceof RequestError && error.status === 404) return undefined; // Deleted meanwhile.
      throw error;
    }
  });
  return (await Promise.all(answers)).filter((one) => one !== undefined);
}

async function unfinished(): Promise<Prediction[]> {
  const page = await dataOf(client.GET("/predictions", { params: { query: { limit: 20 } } }));
  return page.results.filter((prediction) => !hasEnded(prediction.status)).slice(0, MOST);
}
