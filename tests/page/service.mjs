// The running services, asked directly. BASE: of the one that needs no token. LOCKED and TOKEN: of the one that does.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { setTimeout as sleep } from "node:timers/promises";

export const { BASE, LOCKED, TOKEN } = process.env;

const headersFor = (base) => (base === LOCKED ? { Authorization: `Bearer ${TOKEN}` } : {});

/** Ask the service; returns the answer's JSON, or undefined where there is none. */
export async function ask(path, { base = BASE, method = "GET", json, ...options } = {}) {
  const headers = { ...headersFor(base), ...(json && { "Content-Type": "application/json" }) };
  const body = json && JSON.stringify(json);
  const response = await fetch(new URL(path, base), { method, headers, ...(body && { body }), ...options });
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${response.ok ? "" : await response.text()}`);
  return response.status === 204 ? undefined : response.json();
}

export const post = (input, base = BASE) => ask("/predictions", { base, method: "POST", json: { input } });
export const get = (id, base = BASE) => ask(`/predictions/${id}`, { base });
export const ended = ({ status }) => ["succeeded", "failed", "canceled"].includes(status);

/** The newest predictions. */
export const newest = async (limit = 20, base = BASE) => (await ask(`/predictions?limit=${limit}`, { base })).results;

export async function finished(id, base = BASE) {
  for (;;) {
    const prediction = await get(id, base);
    if (ended(prediction)) return prediction;
    await sleep(100);
  }
}

/** Make music and wait for it. */
export async function made(input, base = BASE) {
  const prediction = await finished((await post(input, base)).id, base);
  assert.equal(prediction.status, "succeeded");
  return prediction;
}

/** Leave the service idle. */
export async function cancelAll(base = BASE) {
  if (!base) return;
  const running = (await newest(20, base)).filter((prediction) => !ended(prediction));
  await Promise.all(running.map(({ id }) => ask(`/predictions/${id}/cancel`, { base, method: "POST" })));
  await Promise.all(running.map(({ id }) => finished(id, base)));
}

/** Upload a file; returns its URL. */
export async function uploaded(bytes, base = BASE) {
  const form = new FormData();
  form.append("content", new File([bytes], "tone.wav", { type: "audio/wav" }));
  return (await ask("/files", { base, method: "POST", body: form })).urls.get;
}

/** A tone as a WAV file that a page's file input takes. */
export function tone(seconds = 3, name = "tone.wav") {
  const rate = 32_000;
  const samples = Buffer.alloc(2 * rate * seconds);
  for (let i = 0; i < rate * seconds; i++) samples.writeInt16LE(8_000 * Math.sin(i * 0.0864), 2 * i);
  const header = Buffer.from("RIFF----WAVEfmt \x10\0\0\0\x01\0\x01\0----****\x02\0\x10\0data----", "latin1");
  header.writeUInt32LE(36 + samples.length, 4);
  header.writeUInt32LE(rate, 24);
  header.writeUInt32LE(2 * rate, 28);
  header.writeUInt32LE(samples.length, 40);
  return { name, mimeType: "audio/wav", buffer: Buffer.concat([header, samples]) };
}
