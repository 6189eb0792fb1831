/** Plays finished takes: one at a time, all at one position, with loops and equal loudness. */

import { effect, signal } from "@preact/signals";

export interface Sound {
  readonly buffer: AudioBuffer;
  /** LUFS; null for silence. */
  readonly loudness: number | null;
}

export interface Loop {
  readonly start: number;
  readonly end: number;
}

const FADE_SECONDS = 0.012;

export const playing = signal(false);
/** The take that the keys and the transport act on. */
export const current = signal<string | null>(null);
export const loop = signal<Loop | null>(null);
export const matched = signal(true);
/** Changes when the position jumps: on a seek, a pause, a stop. Never once a frame. */
export const moved = signal(0);

interface Voice {
  readonly source: AudioBufferSourceNode;
  readonly gain: GainNode;
}

const sounds = new Map<string, Sound>();
const views = new Set<TakeMedia>();
let context: AudioContext | null = null;
let voice: Voice | null = null;
let offset = 0;
let startedAt = 0;

export function addSound(id: string, sound: Sound): void {
  sounds.set(id, sound);
  current.value ??= id;
  level();
}

export function removeSound(id: string): void {
  if (current.value === id) {
    pause();
    current.value = [...sounds.keys()].find((other) => other !== id) ?? null;
  }
  sounds.delete(id);
  level();
}

export function hasSound(id: string): boolean {
  return sounds.has(id);
}

/** Seconds from the beginning of the music. */
export function position(): number {
  if (!playing.value || !context) return offset;
  const time = offset + Math.max(0, context.currentTime - startedAt - (context.outputLatency || 0));
  const range = loop.value;
  if (!range || time < range.end) return time;
  return range.start + ((time - range.start) % (range.end - range.start));
}

export function play(id = current.value): void {
  const sound = id === null ? undefined : sounds.get(id);
  if (id === null || !sound) return;
  const from = inside(position(), sound);
  current.value = id;
  start(sound, from);
}

export function pause(): void {
  if (!playing.value) return;
  offset = position();
  silence();
  playing.value = false;
  tell("pause");
  tell("timeupdate");
}

export function toggle(id = current.value): void {
  if (playing.value && id === current.value) pause();
  else play(id);
}

/** Make a take the current one; it goes on from the same position if something plays. */
export function choose(id: string): void {
  if (id === current.value || !sounds.has(id)) return;
  if (playing.value) play(id);
  else current.value = id;
}

export function seek(seconds: number): void {
  const sound = current.value === null ? undefined : sounds.get(current.value);
  if (!sound) return;
  const target = Math.min(Math.max(0, seconds), sound.buffer.duration);
  if (playing.value) start(sound, inside(target, sound));
  else offset = target;
  tell("timeupdate");
}

/** Return the position, or where to start instead: within the loop and the take. */
function inside(seconds: number, sound: Sound): number {
  const range = loop.value;
  if (range && (seconds < range.start || seconds >= range.end)) return Math.min(range.start, sound.buffer.duration);
  return seconds >= sound.buffer.duration - 0.02 ? 0 : seconds;
}

function start(sound: Sound, from: number): void {
  context ??= new AudioContext({ latencyHint: "interactive" });
  void context.resume();
  silence();
  const source = context.createBufferSource();
  const gain = context.createGain();
  source.buffer = sound.buffer;
  applyLoop(source, sound);
  gain.gain.setValueAtTime(0, context.currentTime);
  gain.gain.linearRampToValueAtTime(gainOf(sound), context.currentTime + FADE_SECONDS);
  source.connect(gain).connect(context.destination);
  source.onended = () => ended(source);
  source.start(0, from);
  voice = { source, gain };
  offset = from;
  startedAt = context.currentTime;
  playing.value = true;
  tell("play");
}

function ended(source: AudioBufferSourceNode): void {
  if (voice?.source !== source) return;
  voice = null;
  offset = 0;
  playing.value = false;
  tell("pause");
  tell("timeupdate");
}

function silence(): void {
  if (!voice || !context) return;
  const { source, gain } = voice;
  voice = null;
  const now = context.currentTime;
  gain.gain.cancelScheduledValues(now);
  gain.gain.setValueAtTime(gain.gain.value, now);
  gain.gain.linearRampToValueAtTime(0, now + FADE_SECONDS);
  source.stop(now + FADE_SECONDS);
}

function applyLoop(source: AudioBufferSourceNode, sound: Sound): void {
  const range = loop.value;
  source.loop = range !== null && range.start < sound.buffer.duration;
  if (range) {
    source.loopStart = range.start;
    source.loopEnd = Math.min(range.end, sound.buffer.duration);
  }
}

/** The factor that makes all takes as loud as the quietest, so that none is driven into clipping. */
function gainOf(sound: Sound): number {
  if (!matched.value || sound.loudness === null) return 1;
  const all = [...sounds.values()].map((one) => one.loudness).filter((one) => one !== null);
  return 10 ** ((Math.min(...all) - sound.loudness) / 20);
}

function level(): void {
  const sound = current.value === null ? undefined : sounds.get(current.value);
  if (voice && context && sound) voice.gain.gain.setTargetAtTime(gainOf(sound), context.currentTime, 0.03);
}

effect(() => {
  if (matched.value !== undefined) level();
});

export function setLoop(range: Loop | null): void {
  const at = position();
  loop.value = range;
  const sound = current.value === null ? undefined : sounds.get(current.value);
  if (!playing.value || !sound) return;
  // The clock restarts here, so that the position is right after the loop has changed.
  start(sound, inside(at, sound));
}

function tell(event: "play" | "pause" | "timeupdate"): void {
  for (const view of views) view.dispatchEvent(new Event(event));
  if (event !== "play") moved.value += 1;
}

/** What a waveform takes for a media element: a view of the transport for one take. */
export class TakeMedia extends EventTarget {
  readonly duration: number;
  readonly readyState = 4;
  readonly seeking = false;
  readonly ended = false;
  readonly error = null;
  src = "";
  currentSrc = "";
  volume = 1;
  muted = false;
  playbackRate = 1;
  private readonly id: string;

  constructor(id: string, duration: number) {
    super();
    this.id = id;
    this.duration = duration;
    views.add(this);
  }

  get paused(): boolean {
    return !playing.value;
  }

  get currentTime(): number {
    return Math.min(position(), this.duration);
  }

  set currentTime(seconds: number) {
    choose(this.id);
    seek(seconds);
  }

  play(): Promise<void> {
    play(this.id);
    return Promise.resolve();
  }

  pause(): void {
    pause();
  }

  canPlayType(): string {
    return "";
  }

  removeAttribute(): void {}

  load(): void {}

  /** Show where the music is, and that it plays, on a waveform that has just been drawn. */
  catchUp(): void {
    this.dispatchEvent(new Event("timeupdate"));
    if (playing.value) this.dispatchEvent(new Event("play"));
  }

  close(): void {
    views.delete(this);
  }
}
