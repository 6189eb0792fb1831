/** The sound of a prediction while it is made: its chunks, and a player that plays them without gaps. */

import { effect, signal } from "@preact/signals";

import { parseWav } from "./wav.ts";

export interface Chunk {
  readonly attempt: number;
  readonly index: number;
  readonly start: number;
  readonly duration: number;
  readonly url: string;
}

export interface Piece {
  readonly start: number;
  readonly duration: number;
  readonly channels: readonly Float32Array<ArrayBuffer>[];
}

const TRIES = 6;
const RETRY_MS = 1_500;

/** The chunks of one prediction, in order. Another attempt starts from the beginning. */
export class LiveSound {
  readonly pieces: Piece[] = [];
  rate = 0;
  /** Grows by one with each piece that can be heard or drawn. */
  readonly changes = signal(0);
  readonly complete = signal(false);
  private attempt = 0;
  private readonly waiting = new Map<number, Piece>();
  private readonly asked = new Set<number>();

  /** Fetch a chunk and put it in its place. Chunks of an older attempt are ignored. */
  async add(chunk: Chunk): Promise<void> {
    if (chunk.attempt < this.attempt) return;
    if (chunk.attempt > this.attempt) this.reset(chunk.attempt);
    if (this.asked.has(chunk.index)) return;
    this.asked.add(chunk.index);
    const bytes = await this.fetched(chunk);
    if (!bytes || chunk.attempt !== this.attempt) return;
    const { rate, channels } = parseWav(bytes);
    this.rate = rate;
    this.waiting.set(chunk.index, { start: chunk.start, duration: chunk.duration, channels });
    this.append();
  }

  /** Return a chunk's bytes; undefined once another attempt has begun. Raises after a few tries. */
  private async fetched(chunk: Chunk): Promise<ArrayBuffer | undefined> {
    for (let left = TRIES; chunk.attempt === this.attempt; left -= 1) {
      try {
        const response = await fetch(chunk.url);
        if (response.ok) return await response.arrayBuffer();
        throw new Error(`The storage answered ${response.status}.`);
      } catch (error) {
        if (left <= 1) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    return undefined;
  }

  get seconds(): number {
    const last = this.pieces[this.pieces.length - 1];
    return last ? last.start + last.duration : 0;
  }

  private reset(attempt: number): void {
    this.attempt = attempt;
    this.pieces.length = 0;
    this.waiting.clear();
    this.asked.clear();
    this.changes.value += 1;
  }

  private append(): void {
    const before = this.pieces.length;
    for (let next = this.waiting.get(before); next; next = this.waiting.get(this.pieces.length)) {
      this.waiting.delete(this.pieces.length);
      this.pieces.push(next);
    }
    if (this.pieces.length > before) this.changes.value += 1;
  }
}

/** The id of the take that is heard while it is made. */
export const listening = signal<string | null>(null);
/** True while the sound waits for more music. */
export const buffering = signal(false);

interface Scheduled {
  readonly at: number;
  readonly piece: Piece;
}

const LEAD_SECONDS = 0.08;
/** After a gap, wait for this much before going on: one longer pause is better than many short ones. */
const REFILL_SECONDS = 1;

let player: LivePlayer | null = null;

export function listen(id: string, sound: LiveSound): void {
  stopListening();
  player = new LivePlayer(sound);
  listening.value = id;
}

export function stopListening(): void {
  player?.stop();
  player = null;
  listening.value = null;
  buffering.value = false;
}

/** The place in the music that is heard now. */
export function livePosition(): number {
  return player?.position() ?? 0;
}

class LivePlayer {
  private context: AudioContext | null = null;
  private readonly scheduled: Scheduled[] = [];
  private readonly unwatch: () => void;
  private end = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly sound: LiveSound;

  constructor(sound: LiveSound) {
    this.sound = sound;
    this.unwatch = effect(() => {
      const heard = sound.changes.value + (sound.complete.value ? 1 : 0);
      if (heard >= 0) queueMicrotask(() => this.schedule());
    });
  }

  stop(): void {
    this.unwatch();
    clearTimeout(this.timer);
    void this.context?.close();
    this.context = null;
  }

  position(): number {
    const now = this.context?.currentTime ?? 0;
    const current = this.scheduled.findLast((one) => one.at <= now);
    return current ? current.piece.start + Math.min(now - current.at, current.piece.duration) : 0;
  }

  private schedule(): void {
    if (listening.value === null || player !== this) return;
    if (this.sound.pieces.length < this.scheduled.length) this.restart();
    if (this.sound.rate && !this.context) this.context = new AudioContext({ sampleRate: this.sound.rate });
    const ready = this.sound.pieces.slice(this.scheduled.length);
    if (this.context && this.mayGoOn(this.context, ready)) for (const piece of ready) this.play(this.context, piece);
    this.wakeAtEnd();
  }

  /** Another attempt has begun: forget the first. */
  private restart(): void {
    void this.context?.close();
    this.context = null;
    this.scheduled.length = 0;
    this.end = 0;
  }

  private mayGoOn(context: AudioContext, ready: readonly Piece[]): boolean {
    if (!ready.length) return false;
    if (this.end > context.currentTime || this.sound.complete.value) return true;
    return ready.reduce((sum, piece) => sum + piece.duration, 0) >= REFILL_SECONDS;
  }

  private play(context: AudioContext, piece: Piece): void {
    const [first] = piece.channels;
    if (!first?.length) return void this.scheduled.push({ at: this.end, piece });
    const buffer = context.createBuffer(piece.channels.length, first.length, this.sound.rate);
    piece.channels.forEach((samples, channel) => buffer.copyToChannel(samples, channel));
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(context.destination);
    const at = Math.max(this.end, context.currentTime + LEAD_SECONDS);
    source.start(at);
    this.scheduled.push({ at, piece });
    this.end = at + buffer.duration;
  }

  /** Come back when what is scheduled has been heard: to stop, or to say that more is awaited. */
  private wakeAtEnd(): void {
    clearTimeout(this.timer);
    const left = this.end - (this.context?.currentTime ?? 0);
    buffering.value = left <= 0;
    if (left > 0) this.timer = setTimeout(() => this.schedule(), left * 1000 + 30);
    else if (this.sound.complete.value && this.scheduled.length >= this.sound.pieces.length) stopListening();
  }
}
