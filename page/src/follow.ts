/** Follow a prediction to its end: by its events, and by asking where no stream is free. */

import { authorizedFetch, BASE_URL, client, dataOf, type Prediction, RequestError, requestError } from "./api.ts";
import { eventsOf, type ServerEvent } from "./sse.ts";

export interface Follower {
  /** One event of the stream. */
  event(event: ServerEvent): void;
  /** The prediction as it stands, from time to time. */
  snapshot(prediction: Prediction): void;
  /** It cannot be followed: it is gone, or the token does not read it. */
  lost(error: RequestError): void;
}

// Browsers open six connections to a host over HTTP/1.1, and other requests need some of them.
const MAX_STREAMS = 4;
const ASK_MS = 2_000;
const FIRST_DELAY_MS = 400;
const LONGEST_DELAY_MS = 8_000;

let streams = 0;

/** Follow until the prediction has ended or `signal` aborts. */
export async function follow(id: string, follower: Follower, signal: AbortSignal): Promise<void> {
  const ended = new AbortController();
  signal.addEventListener("abort", () => ended.abort(), { once: true });
  try {
    await Promise.all([ask(id, follower, ended), read(id, follower, ended)]);
  } catch (error) {
    ended.abort();
    if (signal.aborted) return;
    if (!(error instanceof RequestError)) throw error;
    follower.lost(error);
  }
}

export function hasEnded(status: Prediction["status"]): boolean {
  return status === "succeeded" || status === "failed" || status === "canceled";
}

/** Ask for the place in the queue and the estimate, which the stream does not tell; ends when the prediction has. */
async function ask(id: string, follower: Follower, ended: AbortController): Promise<void> {
  const options = { params: { path: { prediction_id: id } }, signal: ended.signal };
  while (!ended.signal.aborted) {
    try {
      const prediction = await dataOf(client.GET("/predictions/{prediction_id}", options));
      follower.snapshot(prediction);
      if (hasEnded(prediction.status)) return ended.abort();
    } catch (error) {
      if (ended.signal.aborted) return;
      if (!passes(error)) throw error;
    }
    await pause(document.hidden ? ASK_MS * 3 : ASK_MS, ended.signal);
  }
}

/** Read the stream, again and again from where it broke off. */
async function read(id: string, follower: Follower, ended: AbortController): Promise<void> {
  let last = "";
  let delay = FIRST_DELAY_MS;
  while (!ended.signal.aborted) {
    if (streams >= MAX_STREAMS || document.hidden) {
      await pause(ASK_MS / 4, ended.signal);
      continue;
    }
    streams += 1;
    const connection = connectionOf(ended.signal);
    try {
      for await (const event of await open(id, last, connection.signal)) {
        last = event.id || last;
        delay = FIRST_DELAY_MS;
        if (event.event === "done") return await finish(id, follower, ended);
        follower.event(event);
      }
    } catch (error) {
      if (error instanceof RequestError && !passes(error)) throw error;
    } finally {
      streams -= 1;
      connection.release();
    }
    await pause(delay * (0.75 + Math.random() / 2), ended.signal);
    delay = Math.min(LONGEST_DELAY_MS, delay * 2);
  }
}

/** A signal for one connection: hidden pages give theirs up, so that other tabs have enough. */
function connectionOf(ended: AbortSignal): { signal: AbortSignal; release: () => void } {
  const connection = new AbortController();
  const close = (): void => connection.abort();
  const hidden = (): void => void (document.hidden && close());
  ended.addEventListener("abort", close);
  document.addEventListener("visibilitychange", hidden);
  const release = (): void => {
    ended.removeEventListener("abort", close);
    document.removeEventListener("visibilitychange", hidden);
  };
  return { signal: connection.signal, release };
}

async function open(id: string, last: string, signal: AbortSignal): Promise<AsyncGenerator<ServerEvent>> {
  const headers: Record<string, string> = { Accept: "text/event-stream" };
  if (last) headers["Last-Event-ID"] = last;
  const url = `${BASE_URL}/predictions/${encodeURIComponent(id)}/stream`;
  const response = await authorizedFetch(new Request(url, { headers, signal, cache: "no-store" }));
  if (!response.ok || !response.body) {
    throw requestError(response.status, await response.json().catch(() => undefined));
  }
  return eventsOf(response.body);
}

async function finish(id: string, follower: Follower, ended: AbortController): Promise<void> {
  const path = { params: { path: { prediction_id: id } }, signal: ended.signal };
  try {
    const prediction = await dataOf(client.GET("/predictions/{prediction_id}", path));
    follower.snapshot(prediction);
    if (hasEnded(prediction.status)) ended.abort();
  } catch (error) {
    if (!ended.signal.aborted && !passes(error)) throw error; // `ask` asks again.
  }
}

/** Whether trying again may help: not where the prediction is gone or belongs to another token. */
function passes(error: unknown): boolean {
  return error instanceof RequestError ? error.status === 0 || error.status >= 500 : true;
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
