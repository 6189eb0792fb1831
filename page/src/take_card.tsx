import type { Prediction } from "./api.ts";
import { Facts } from "./facts.tsx";
import { hasEnded } from "./follow.ts";
import { about, shortModel, shortVersion, signed, secondsOf } from "./format.ts";
import { Icon } from "./icons.tsx";
import { listen, listening, stopListening } from "./live_sound.ts";
import { LiveWave } from "./live_wave.tsx";
import { LogsButton } from "./logs.tsx";
import { TakeActions } from "./take_actions.tsx";
import { cancel, putAway, type Take } from "./takes.ts";
import { TakeTime } from "./take_time.tsx";
import { choose, current, playing, toggle } from "./transport.ts";
import { Waveform } from "./waveform.tsx";

interface Props {
  take: Take;
  /** Its place in the list, which is also its key. */
  place: number;
}

/** One take: its waveform, and below it either how far it is or what can be done with it. */
export function TakeCard({ take, place }: Props) {
  const { status } = take.prediction.value;
  const isCurrent = current.value === take.id && take.buffer.value !== null;
  const title = `take-${take.id}`;
  return (
    <li class={`take panel is-${status}`} data-current={isCurrent ? "" : undefined} aria-labelledby={title}>
      <TakeHead take={take} place={place} title={title} />
      <TakeBody take={take} title={title} />
      <div class="take-lower">
        {status === "succeeded" && take.buffer.value && <TakeFoot take={take} />}
        {status === "succeeded" && !take.buffer.value && !take.trouble.value && (
          <p class="take-note">Loading the audio…</p>
        )}
        {(status === "starting" || status === "processing") && <TakeProgress take={take} />}
        {status === "failed" && <Failed take={take} />}
        {status === "canceled" && <Canceled take={take} />}
      </div>
      <Trouble take={take} />
    </li>
  );
}

function TakeHead({ take, place, title }: Props & { title: string }) {
  const { input, model, version, rerun_of } = take.prediction.value;
  const prompt = String(input.prompt ?? "").trim();
  return (
    <div class="take-head">
      <button
        type="button"
        class="place"
        aria-pressed={current.value === take.id}
        aria-label={`Choose number ${place}`}
        disabled={!take.buffer.value}
        onClick={() => choose(take.id)}
      >
        {place}
      </button>
      <h3 id={title} class={prompt ? "take-prompt" : "take-prompt none"} title={prompt}>
        {prompt || "Without a description"}
      </h3>
      {typeof input.input_audio === "string" && (
        <span class="tag">{input.continuation ? "continues audio" : "follows a melody"}</span>
      )}
      {rerun_of && <span class="tag">rerun</span>}
      <span class="take-model" title={`${model}, version ${version}`}>
        {shortModel(model)} <span class="number">{shortVersion(version)}</span>
      </span>
    </div>
  );
}

function TakeBody({ take, title }: { take: Take; title: string }) {
  const { status } = take.prediction.value;
  const running = status === "starting" || status === "processing";
  return (
    <div class="take-body">
      {running ? <ListenButton take={take} title={title} /> : <PlayButton take={take} title={title} />}
      <div class="take-wave">
        {take.buffer.value ? <Waveform take={take} buffer={take.buffer.value} title={title} /> : <LiveWave take={take} />}
      </div>
    </div>
  );
}

function PlayButton({ take, title }: { take: Take; title: string }) {
  const plays = playing.value && current.value === take.id;
  const start = (): void => {
    stopListening();
    toggle(take.id);
  };
  return (
    <button
      type="button"
      class="play-button"
      aria-label={plays ? "Pause" : "Play"}
      aria-describedby={title}
      disabled={!take.buffer.value}
      onClick={start}
    >
      <Icon name={plays ? "pause" : "play"} size={26} />
    </button>
  );
}

function ListenButton({ take, title }: { take: Take; title: string }) {
  const on = listening.value === take.id;
  const possible = take.sound.changes.value > 0;
  return (
    <button
      type="button"
      class="play-button live"
      aria-label={on ? "Stop listening" : undefined}
      aria-describedby={title}
      title={possible ? undefined : "There is nothing to hear yet"}
      disabled={!possible}
      onClick={() => (on ? stopListening() : listen(take.id, take.sound))}
    >
      <Icon name={on ? "stop" : "headphones"} size={24} />
      <span class="play-caption">{on ? "Stop" : "Listen now"}</span>
    </button>
  );
}

function TakeProgress({ take }: { take: Take }) {
  const prediction = take.prediction.value;
  const progress = take.progress.value;
  const percent = Math.round((progress?.fraction ?? 0) * 100);
  const state = stateOf(prediction, progress);
  return (
    <div class="take-progress">
      <div
        class={prediction.status === "starting" ? "progress waiting" : "progress"}
        role="progressbar"
        aria-label="Progress"
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={percent}
        aria-valuetext={state}
      >
        <span style={{ transform: `scaleX(${(progress?.fraction ?? 0).toFixed(4)})` }} />
      </div>
      <p class="take-state number">{state}</p>
      <TakeFacts prediction={prediction} />
      <div class="take-actions">
        <button type="button" class="quiet-button" onClick={() => void cancel(take)}>
          <Icon name="close" size={18} /> <span>Cancel</span>
        </button>
        <LogsButton text={take.logs.value} />
      </div>
    </div>
  );
}

function stateOf(prediction: Prediction, progress: { completed_steps: number; total_steps: number } | null): string {
  const { estimate, queue_position: ahead, status } = prediction;
  if (status === "starting") {
    const place = ahead ? `Waiting, ${ahead} ahead` : "Next in the queue";
    const start = estimate?.start_seconds ?? 0;
    return start >= 1 ? `${place}, starts in ${about(start)}` : place;
  }
  const steps = progress ? `Step ${progress.completed_steps} of ${progress.total_steps}` : "Starting";
  return estimate ? `${steps}, ${about(estimate.finish_seconds)} left` : steps;
}

function TakeFoot({ take }: { take: Take }) {
  return (
    <div class="take-foot">
      <div class="take-facts">
        <TakeTime take={take} />
        <TakeFacts prediction={take.prediction.value} />
      </div>
      <TakeActions take={take} />
    </div>
  );
}

function TakeFacts({ prediction }: { prediction: Prediction }) {
  // While it is being made, its seed and the length that was asked for are known.
  const { duration, seed } = prediction.input;
  const metrics = { duration, seed, ...prediction.metrics };
  const number = (name: string, write: (value: number) => string): string => {
    const value: unknown = metrics[name as keyof typeof metrics];
    return typeof value === "number" ? write(value) : "–";
  };
  const facts: [string, string][] = [
    ["Length", number("duration", secondsOf)],
    ["Seed", number("seed", String)],
    ["Loudness", number("loudness", (value) => `${signed(value)} LUFS`)],
    ["True peak", number("true_peak", (value) => `${signed(value)} dBTP`)],
    ["Real-time factor", number("real_time_factor", (value) => value.toFixed(2))],
  ];
  return <Facts facts={facts} />;
}

function Failed({ take }: { take: Take }) {
  return (
    <div class="take-foot">
      <p class="form-error" role="alert">
        <Icon name="alert" /> {take.prediction.value.error ?? "The generation failed."}
      </p>
      <TakeActions take={take} />
    </div>
  );
}

function Canceled({ take }: { take: Take }) {
  return (
    <div class="take-foot">
      <p class="take-note">Cancelled.</p>
      <TakeActions take={take} />
    </div>
  );
}

function Trouble({ take }: { take: Take }) {
  const { output, status } = take.prediction.value;
  if (!take.trouble.value) return null;
  const stuck = !hasEnded(status);
  return (
    <>
      <p class="form-error" role="alert">
        <Icon name="alert" /> {take.trouble.value}
      </p>
      {output && !take.buffer.value && <audio class="plain-player" controls preload="none" src={output} />}
      {stuck && (
        <button type="button" class="button" onClick={() => putAway(take.id)}>
          Put away
        </button>
      )}
    </>
  );
}
