import { useState } from "preact/hooks";

import type { Training } from "./api.ts";
import { DeleteDialog } from "./delete_dialog.tsx";
import { Facts } from "./facts.tsx";
import { playWith } from "./fine_tunes.ts";
import { hasEnded } from "./follow.ts";
import { ago } from "./format.ts";
import { Icon } from "./icons.tsx";
import { LogsButton } from "./logs.tsx";
import { Sample } from "./sample.tsx";
import type { components } from "./schema.gen.ts";
import { cancelTraining, readTraining, removeTraining } from "./trainings.ts";

type Trained = components["schemas"]["Trained"];

/** One training: how far it is, or what came of it. `onPlay`: its version has been chosen. */
export function TrainingCard({ training, onPlay }: { training: Training; onPlay(): void }) {
  const { id, status, destination, created_at: created, output, error, logs } = training;
  const trained = output && "version" in output ? output : null;
  const title = `training-${id}`;
  return (
    <li class="training" aria-labelledby={title}>
      <div class="take-head">
        <h3 id={title} class="take-prompt">
          {destination}
        </h3>
        <span class="take-model">{ago(created)}</span>
      </div>
      {!hasEnded(status) && <TrainingProgress training={training} />}
      {trained && <Result trained={trained} onBroken={() => void readTraining(id)} />}
      {status === "failed" && (
        <p class="form-error" role="alert">
          <Icon name="alert" /> {error ?? "The training failed."}
        </p>
      )}
      {status === "canceled" && <p class="faint">Cancelled.</p>}
      <div class="button-row training-actions">
        {trained && <PlayButton training={training} trained={trained} onPlay={onPlay} />}
        {!hasEnded(status) && (
          <button type="button" class="quiet-button" onClick={() => void cancelTraining(id)}>
            <Icon name="close" size={18} /> <span>Cancel</span>
          </button>
        )}
        <LogsButton text={logs} />
        {hasEnded(status) && <DeleteButton id={id} />}
      </div>
    </li>
  );
}

function TrainingProgress({ training }: { training: Training }) {
  const fraction = training.progress?.fraction ?? 0;
  const state = stateOf(training);
  return (
    <div>
      <div
        class={training.progress ? "progress" : "progress waiting"}
        role="progressbar"
        aria-label="Progress"
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(fraction * 100)}
        aria-valuetext={state}
      >
        <span style={{ transform: `scaleX(${fraction.toFixed(4)})` }} />
      </div>
      <p class="take-state number">{state}</p>
    </div>
  );
}

function stateOf({ status, progress, queue_position: ahead }: Training): string {
  if (status === "starting") return ahead ? `Waiting, ${ahead} ahead` : "Next in the queue";
  return progress ? `Step ${progress.completed_steps} of ${progress.total_steps}` : "Preparing the music";
}

function Result({ trained, onBroken }: { trained: Trained; onBroken(): void }) {
  const { held_out_loss: loss, pieces, dropped, samples } = trained;
  const facts: [string, string][] = [
    ["Held-out loss", `${loss.before.toFixed(3)} → ${loss.after.toFixed(3)}`],
    ["Pieces", String(pieces)],
    ["Dropped", String(dropped)],
  ];
  return (
    <>
      <Facts facts={facts} />
      {samples.length > 0 && (
        <ul class="samples" aria-label="Samples">
          {samples.map((sample, index) => (
            <Sample key={index} sample={sample} onBroken={onBroken} />
          ))}
        </ul>
      )}
    </>
  );
}

function PlayButton({ training, trained, onPlay }: { training: Training; trained: Trained; onPlay(): void }) {
  const play = (): void => {
    const [name, id] = trained.version.split(":") as [string, string];
    onPlay();
    playWith(name, id, trained.samples[0]?.caption);
  };
  return (
    <button type="button" class="button" aria-describedby={`training-${training.id}`} onClick={play}>
      <Icon name="melody" size={18} /> <span>Play with it</span>
    </button>
  );
}

function DeleteButton({ id }: { id: string }) {
  const [asked, setAsked] = useState(false);
  return (
    <>
      <button type="button" class="quiet-button" onClick={() => setAsked(true)}>
        <Icon name="trash" size={18} /> <span>Delete</span>
      </button>
      {asked && (
        <DeleteDialog
          title="Delete this training?"
          onDelete={() => void removeTraining(id).then(() => setAsked(false))}
          onClose={() => setAsked(false)}
        >
          The service deletes its log and its samples. The version that it made stays.
        </DeleteDialog>
      )}
    </>
  );
}
