/** Requests to the API: typed, with the token, and with errors that say what to do. */

import { signal } from "@preact/signals";
import createClient from "openapi-fetch";

import type { components, paths } from "./schema.gen.ts";
import { refuse, token } from "./session.ts";

export type Prediction = components["schemas"]["Prediction"];
export type PredictionRequest = components["schemas"]["PredictionRequest"];
export type Training = components["schemas"]["Training"];
export type TrainingRequest = components["schemas"]["TrainingRequest"];
export type Model = components["schemas"]["Model"];
export type Problem = components["schemas"]["Problem"];

/** Where the API is: this page's own origin. */
export const BASE_URL = location.origin;

/** Whether the service answers at all. */
export const offline = signal(false);

/** What went wrong with a request. `status` is 0 where no answer came. */
export class RequestError extends Error {
  readonly status: number;
  readonly problem: Problem | undefined;

  constructor(status: number, message: string, problem?: Problem) {
    super(message);
    this.name = "RequestError";
    this.status = status;
    this.problem = problem;
  }
}

const GATEWAY_FAILURES = new Set([502, 504]);

/** `fetch` with the token; keeps `offline` and the signed-out state up to date. */
export async function authorizedFetch(request: Request): Promise<Response> {
  if (token.value !== null) request.headers.set("Authorization", `Bearer ${token.value}`);
  const sent = token.value;
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    offline.value = true;
    throw new RequestError(0, "The service does not answer.");
  }
  offline.value = GATEWAY_FAILURES.has(response.status);
  // Only the token of now: an answer to an older one says nothing about it.
  if (response.status === 401 && sent === token.value) refuse();
  return response;
}

export const client = createClient<paths>({ baseUrl: BASE_URL, fetch: authorizedFetch });

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** Return an answer's data, or raise RequestError. */
export async function dataOf<T>(answer: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await answer;
  if (response.ok) return data as T;
  throw requestError(response.status, error);
}

export function requestError(status: number, body: unknown): RequestError {
  const problem = isProblem(body) ? body : undefined;
  const plain = typeof body === "string" && body ? body : `The service answered ${status}.`;
  return new RequestError(status, problem?.detail ?? plain, problem);
}

function isProblem(body: unknown): body is Problem {
  return typeof body === "object" && body !== null && "detail" in body && typeof body.detail === "string";
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The error of an upload at the field that it is for; those of the connection and of the token are no field's. */
export function atField(field: string, error: unknown): unknown {
  if (!(error instanceof RequestError) || error.status === 0 || error.status === 401) return error;
  const problem = { title: "", status: error.status, instance: "", detail: error.message };
  const errors = [{ field, message: "cannot be used", remedy: error.message.replace(/\.$/, "") }];
  return new RequestError(error.status, error.message, { ...problem, errors });
}

/** Send a file, and return the URL to name in an input. */
export async function upload(file: File): Promise<string> {
  const form = new FormData();
  form.append("content", file, file.name);
  const { urls } = (await ask("/files", { method: "POST", body: form })) as components["schemas"]["File"];
  return urls.get;
}

/** Ask what the typed client does not know: files, and what is below /v1. */
export async function ask(path: string, init?: RequestInit): Promise<unknown> {
  const response = await authorizedFetch(new Request(`${BASE_URL}${path}`, init));
  const body: unknown = await response.json().catch(() => undefined);
  if (!response.ok) throw requestError(response.status, body);
  return body;
}

/** Read the secret that signs the webhooks. */
export async function webhookSecret(): Promise<string> {
  return ((await ask("/v1/webhooks/default/secret")) as { key: string }).key;
}
