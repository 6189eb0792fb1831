/** Numbers and times as people read them. */

/** `0:07.4` */
export function clock(seconds: number): string {
  const tenths = Math.max(0, Math.floor(seconds * 10 + 1e-6));
  const minutes = Math.floor(tenths / 600);
  return `${minutes}:${String(Math.floor((tenths % 600) / 10)).padStart(2, "0")}.${tenths % 10}`;
}

/** `about 8 s`, `about 2 min` */
export function about(seconds: number): string {
  if (seconds < 1) return "a moment";
  return seconds < 90 ? `about ${Math.round(seconds)} s` : `about ${Math.round(seconds / 60)} min`;
}

/** `8 s`, `7.5 s` */
export function secondsOf(value: number): string {
  return `${Number(value.toFixed(1))} s`;
}

/** A minus that is as wide as a plus: `−14.0` */
export function signed(value: number, digits = 1): string {
  return value.toFixed(digits).replace("-", "−");
}

export function ago(time: string, now = Date.now()): string {
  const minutes = Math.floor((now - Date.parse(time)) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ago`;
  return new Date(time).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}

export function shortModel(name: string): string {
  return name.split("/").pop() ?? name;
}

/** The first letters of a checksum; a name that the operator chose stays whole. */
export function shortVersion(version: string): string {
  return /^[0-9a-f]{40,}$/.test(version) ? version.slice(0, 8) : version;
}

/** How the names of files in this output format end. */
export function extensionOf(outputFormat: unknown): string {
  const format = String(outputFormat ?? "wav");
  return format === "wav24" ? "wav" : format;
}

export function fileName(prompt: string, seed: unknown, extension: string): string {
  const words = prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu)?.slice(0, 6).join("-") ?? "";
  return `${words || "music"}-${typeof seed === "number" ? seed : "take"}.${extension}`;
}
