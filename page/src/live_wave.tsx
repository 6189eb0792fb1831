import { useEffect, useRef } from "preact/hooks";

import { buffering, listening, livePosition, type Piece } from "./live_sound.ts";
import type { Take } from "./takes.ts";
import { colours } from "./theme_switch.tsx";
import { BAR, waveColours } from "./wave_style.ts";

const STEPS_PER_SECOND = 50;
/** The delay of the codebooks: steps that add no time. */
const EXTRA_STEPS = 3;
const DOT = 2;
const SHARE = 0.9;
/** Live sound is not normalized: quiet music is drawn larger, but noise is not blown up. */
const LEAST_PEAK = 0.15;

/** The waveform while it grows. It is drawn when a chunk comes; only its cursor moves in between. */
export function LiveWave({ take }: { take: Take }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const cursor = useRef<HTMLSpanElement>(null);
  const total = secondsOf(take);
  const changes = take.sound.changes.value;
  const dark = colours.value;
  const heard = listening.value === take.id;

  useEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    const redraw = (): void => draw(element, take.sound.pieces, take.sound.rate, total);
    redraw();
    const observer = new ResizeObserver(redraw);
    observer.observe(element);
    return () => observer.disconnect();
  }, [changes, total, dark]);

  useEffect(() => {
    if (!heard) return undefined;
    let frame = 0;
    const move = (): void => {
      const width = canvas.current?.clientWidth ?? 0;
      if (cursor.current) cursor.current.style.transform = `translateX(${(livePosition() / total) * width}px)`;
      frame = requestAnimationFrame(move);
    };
    move();
    return () => cancelAnimationFrame(frame);
  }, [heard, total]);

  return (
    <div class="live-wave">
      <canvas ref={canvas} />
      {heard && <span class={buffering.value ? "live-cursor waits" : "live-cursor"} ref={cursor} />}
    </div>
  );
}

function secondsOf(take: Take): number {
  const steps = take.progress.value?.total_steps ?? 0;
  const entered = Number(take.prediction.value.input.duration) || 8;
  return Math.max(steps ? (steps - EXTRA_STEPS) / STEPS_PER_SECOND : entered, take.sound.seconds);
}

function draw(canvas: HTMLCanvasElement, pieces: readonly Piece[], rate: number, total: number): void {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  if (!context || !width) return;
  context.scale(ratio, ratio);
  const count = Math.floor(width / (BAR.barWidth + BAR.barGap));
  const peaks = peaksOf(pieces, rate, total, count);
  const largest = Math.max(LEAST_PEAK, ...peaks);
  const shown = waveColours();
  for (let bar = 0; bar < count; bar += 1) {
    const peak = peaks[bar];
    const size = peak === undefined ? DOT : Math.max(DOT, (peak / largest) * height * SHARE);
    context.fillStyle = peak === undefined ? shown.wave : shown.played;
    context.beginPath();
    context.roundRect(bar * (BAR.barWidth + BAR.barGap), (height - size) / 2, BAR.barWidth, size, BAR.barRadius);
    context.fill();
  }
}

/** Return the largest sample under each bar, for as many bars as there is music. */
function peaksOf(pieces: readonly Piece[], rate: number, total: number, count: number): number[] {
  const peaks: number[] = [];
  const perBar = (total * rate) / count;
  let at = 0;
  for (const { channels } of pieces) {
    const samples = channels[0];
    for (const sample of samples ?? []) {
      const bar = Math.min(count - 1, Math.floor(at / perBar));
      const size = Math.abs(sample);
      if (size > (peaks[bar] ?? -1)) peaks[bar] = size;
      at += 1;
    }
  }
  return peaks;
}
