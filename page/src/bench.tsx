import { useState } from "preact/hooks";

import { Toggle } from "./controls.tsx";
import { Icon } from "./icons.tsx";
import { shortcuts } from "./keyboard.ts";
import { TakeCard } from "./take_card.tsx";
import { putAllAway, takeOf, takes } from "./takes.ts";
import { current, loop, matched, position, setLoop } from "./transport.ts";

/** The takes, and what is common to them: the level, the loop, the keys. */
export function Bench() {
  const list = takes.value;
  return (
    <section class="bench">
      <header class="bench-head">
        <h2 id="takes-title">Takes</h2>
        {list.length > 0 && <BenchControls />}
      </header>
      {list.length ? (
        <ol class="takes" aria-labelledby="takes-title">
          {list.map((take, index) => (
            <TakeCard key={take.id} take={take} place={index + 1} />
          ))}
        </ol>
      ) : (
        <EmptyBench />
      )}
      {list.length > 0 && <Keys />}
    </section>
  );
}

function BenchControls() {
  return (
    <div class="bench-controls">
      <LoopControl />
      <Toggle
        label="Same loudness"
        title="Turns louder takes down to the quietest one"
        checked={matched.value}
        onChange={(on) => (matched.value = on)}
      />
      <button type="button" class="quiet-button" title="The service keeps them: see History" onClick={putAllAway}>
        Clear
      </button>
    </div>
  );
}

const LOOP_SECONDS = 4;

function LoopControl() {
  const range = loop.value;
  const buffer = takeOf(current.value)?.buffer.value;
  const toggle = (): void => {
    if (range) return setLoop(null);
    const seconds = buffer?.duration ?? LOOP_SECONDS;
    const length = Math.min(LOOP_SECONDS, seconds / 2);
    const start = Math.max(0, Math.min(position() - length / 2, seconds - length));
    setLoop({ start: round(start), end: round(start + length) });
  };
  return (
    <div class="loop">
      <button type="button" class="quiet-button" aria-pressed={range !== null} disabled={!buffer} onClick={toggle}>
        <Icon name="loop" size={18} /> <span>Loop</span>
      </button>
      {range && (
        <>
          <LoopEdge label="Loop start" value={range.start} onChange={(start) => start < range.end && setLoop({ ...range, start })} />
          <span aria-hidden="true">–</span>
          <LoopEdge label="Loop end" value={range.end} onChange={(end) => end > range.start && setLoop({ ...range, end })} />
        </>
      )}
    </div>
  );
}

function LoopEdge({ label, value, onChange }: { label: string; value: number; onChange(value: number): void }) {
  return (
    <input
      type="number"
      class="small-number"
      aria-label={label}
      min={0}
      step={0.1}
      value={value}
      onChange={(event) => event.currentTarget.value !== "" && onChange(Math.max(0, Number(event.currentTarget.value)))}
    />
  );
}

function round(seconds: number): number {
  return Math.round(seconds * 100) / 100;
}

function EmptyBench() {
  return (
    <div class="empty">
      <EmptyWave />
      <p class="empty-title">Nothing here yet</p>
      <p>Describe some music and press Generate. You can listen while it is being made.</p>
    </div>
  );
}

/** A still waveform, drawn from a formula. */
function EmptyWave() {
  const [bars] = useState(() => Array.from({ length: 96 }, (_, index) => barHeight(index)));
  return (
    <svg class="empty-wave" viewBox="0 0 480 64" preserveAspectRatio="xMidYMid slice" aria-hidden="true">
      {bars.map((height, index) => (
        <rect key={index} x={index * 5 + 1} y={32 - height / 2} width={3} height={height} rx={1.5} />
      ))}
    </svg>
  );
}

function barHeight(index: number): number {
  const swell = Math.sin((index / 95) * Math.PI) ** 2;
  return 3 + swell * 52 * Math.abs(Math.sin(index * 0.9) * Math.cos(index * 0.23) * Math.sin(index * 0.071 + 1));
}

function Keys() {
  return (
    <div class="keys">
      <Toggle label="Keyboard shortcuts" checked={shortcuts.value} onChange={(on) => (shortcuts.value = on)} />
      {shortcuts.value && (
        <p class="keys-list">
          <kbd>Space</kbd> plays and pauses <kbd>←</kbd> <kbd>→</kbd> move by a second <kbd>1</kbd>–<kbd>9</kbd> choose
          a take, at the same place in the music
        </p>
      )}
    </div>
  );
}
