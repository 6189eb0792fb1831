/** The audio that the music starts from: a file, a recording, an earlier take, or a URL. */

import { signal } from "@preact/signals";

import { upload } from "./api.ts";

export interface Clip {
  /** What the user chose; null where there is only a URL. */
  readonly file: File | null;
  readonly name: string;
  /** What to send as `input_audio`; null until the file is uploaded. */
  url: string | null;
}

export const clip = signal<Clip | null>(null);

export function clipFromFile(file: File): Clip {
  return { file, name: file.name, url: null };
}

export function clipFromUrl(url: string): Clip {
  if (url.startsWith("data:")) return { file: null, name: "Audio in the request itself", url };
  const here = url.startsWith(`${location.origin}/files/`);
  return { file: null, name: here ? "Uploaded audio" : url, url };
}

const uploads = new WeakMap<Clip, Promise<string>>();

/** Return the URL to send, after uploading the file where that has not happened yet. */
export async function clipUrl(): Promise<string | null> {
  const chosen = clip.value;
  if (!chosen) return null;
  if (chosen.url !== null) return chosen.url;
  const file = chosen.file as File;
  const running = uploads.get(chosen) ?? upload(file);
  uploads.set(chosen, running);
  try {
    chosen.url = await running;
  } finally {
    uploads.delete(chosen);
  }
  return chosen.url;
}
