/** Send what the form says, and keep what went wrong at its field. */

import { signal } from "@preact/signals";

import { atField, messageOf, type Prediction, type PredictionRequest, RequestError } from "./api.ts";
import { clip, clipFromFile, clipUrl } from "./clip.ts";
import { adopt, clearErrors, count, live, requestsOf, setValue, showProblem, values } from "./form.ts";
import { refreshHistory } from "./history.ts";
import { create, rerun, type Take } from "./takes.ts";
import { pause } from "./transport.ts";
import { extensionOf, fileName } from "./format.ts";

const AFTER_DRAWING_MS = 60;

/** What is being sent now; null: nothing. */
export const sending = signal<"audio" | "request" | null>(null);

export async function generate(): Promise<void> {
  if (sending.value) return;
  clearErrors();
  await attempt(async () => {
    sending.value = clip.value?.url === null ? "audio" : "request";
    const audio = await uploaded();
    sending.value = "request";
    await create(requestsOf(audio, count.value));
  });
}

/** Upload the clip; an error of this stands at its field. */
async function uploaded(): Promise<string | null> {
  try {
    return await clipUrl();
  } catch (error) {
    throw atField("input_audio", error);
  }
}

/** The same settings with a seed of its own. */
export async function vary(prediction: Prediction): Promise<void> {
  const { seed: _, ...input } = prediction.input;
  const body = { version: prediction.version, stream: live.value, input } as PredictionRequest;
  await attempt(() => create([body]));
}

export async function again(id: string): Promise<void> {
  await attempt(() => rerun(id));
}

/** Put a take's settings and its seed into the form, to change something and hear what that does. */
export function reuseSeed(prediction: Prediction): void {
  adopt(prediction, { seed: true, audio: true });
  showComposer();
}

/** Start the next music from a take: continue it, or follow its melody. */
export function useAsAudio(take: Take, how: "continue" | "melody"): void {
  const prediction = take.prediction.value;
  if (!take.blob) return;
  pause();
  adopt(prediction, { seed: false, audio: false });
  const extension = extensionOf(prediction.input.output_format);
  const name = fileName(String(prediction.input.prompt ?? ""), prediction.input.seed, extension);
  clip.value = clipFromFile(new File([take.blob], name, { type: take.blob.type }));
  const { continuation_start: _s, continuation_end: _e, ...others } = values.value;
  values.value = others;
  setValue("continuation", how === "continue");
  showComposer();
}

export function showComposer(): void {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.querySelector(".composer")?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  document.querySelector<HTMLElement>("#field-prompt")?.focus({ preventScroll: true });
}

async function attempt(action: () => Promise<void>): Promise<void> {
  sending.value = "request";
  try {
    await action();
    void refreshHistory();
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    // The sign-in form and the banner say the rest.
    if (error.status !== 401 && error.status !== 0) showProblem(error.problem, messageOf(error));
    setTimeout(focusFirstError, AFTER_DRAWING_MS);
  } finally {
    sending.value = null;
  }
}

function focusFirstError(): void {
  document.querySelector<HTMLElement>(".composer [aria-invalid=true]")?.focus();
}
