import { signal } from "@preact/signals";
import { useState } from "preact/hooks";

import { Dialog } from "./dialog.tsx";
import { FineTuneList } from "./fine_tune_list.tsx";
import { Icon } from "./icons.tsx";
import { Tabs } from "./tabs.tsx";
import { TrainingCard } from "./training_card.tsx";
import { TrainingFormPanel } from "./training_form_panel.tsx";
import { running, trainings, trainingsTrouble } from "./trainings.ts";

const opened = signal(false);

const TABS = [
  { id: "train", label: "Train" },
  { id: "trainings", label: "Trainings" },
  { id: "fine-tunes", label: "Your fine-tunes" },
];

/** Opens the dialog; says how far a training is. */
export function FineTunesButton() {
  const training = running.value;
  const percent = Math.round((training?.progress?.fraction ?? 0) * 100);
  return (
    <button type="button" class="text-button number" aria-haspopup="dialog" onClick={() => (opened.value = true)}>
      {training ? `Training, ${percent} %` : "Fine-tunes"}
    </button>
  );
}

/** Train models, hear what came of it, and keep or delete them. */
export function FineTunesDialog() {
  return opened.value ? <Opened onClose={() => (opened.value = false)} /> : null;
}

function Opened({ onClose }: { onClose(): void }) {
  const [tab, setTab] = useState(running.value ? "trainings" : "train");
  return (
    <Dialog title="Fine-tunes" wide onClose={onClose}>
      <Tabs label="Fine-tunes" tabs={TABS} chosen={tab} onChoose={setTab}>
        <div class="fine-tunes">
          {trainingsTrouble.value && (
            <p class="form-error" role="alert">
              <Icon name="alert" /> {trainingsTrouble.value}
            </p>
          )}
          {tab === "train" && <TrainingFormPanel onStart={() => setTab("trainings")} />}
          {tab === "trainings" && <Trainings onPlay={onClose} />}
          {tab === "fine-tunes" && <FineTuneList onPlay={onClose} />}
        </div>
      </Tabs>
    </Dialog>
  );
}

function Trainings({ onPlay }: { onPlay(): void }) {
  if (!trainings.value.length) return <p class="faint">Trainings are listed here, with samples from before and after.</p>;
  return (
    <ol class="trainings" aria-label="Trainings">
      {trainings.value.map((training) => (
        <TrainingCard key={training.id} training={training} onPlay={onPlay} />
      ))}
    </ol>
  );
}
