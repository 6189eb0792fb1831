import { useEffect, useState } from "preact/hooks";

import { described, FieldNotes, FieldShell, Form, NumberInput, SwitchField, TextInput } from "./controls.tsx";
import { DatasetTable } from "./dataset_table.tsx";
import { DropZone } from "./drop_zone.tsx";
import { ownFineTunes, trainable } from "./fine_tunes.ts";
import { shortModel } from "./format.ts";
import { Icon } from "./icons.tsx";
import { chooseDataset, dataset, inspect, inspection, sendingTraining, startTraining, trainingForm } from "./training_form.ts";

const HINTS = {
  dataset: "Some twenty clips make a style. Each may have its caption in a text file of the same name beside it.",
  destination: "A new model, or one of yours, which then gets another version.",
  description: "For files without a caption of their own. What you write here you will later write in prompts.",
  tempo_and_key: "As they are found in each piece.",
  steps: "At most: it ends when it no longer gets better.",
  rank: "The adapter's size. A higher one learns few clips by heart, and their noise too.",
  learning_rate: "Empty: by the base's size.",
};
const FURTHER = ["steps", "rank", "learning_rate"] as const;

/** Asks for music and a name, and trains; `onStart`: once that is accepted. */
export function TrainingFormPanel({ onStart }: { onStart(): void }) {
  const busy = sendingTraining.value;
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (await startTraining()) onStart();
  };
  if (!trainable.value.length) return <NoTrainer />;
  return (
    <Form.Provider value={trainingForm}>
      <form class="training-form" aria-label="Train a fine-tune" noValidate onSubmit={(event) => void submit(event)}>
        <DatasetField />
        <FieldShell name="description" hint={HINTS.description}>
          <TextInput name="description" hint={HINTS.description} placeholder="a kalimba in a tresillo" />
        </FieldShell>
        <div class="training-fields">
          <DestinationField />
          {trainable.value.length > 1 && <BaseField />}
          <SwitchField name="tempo_and_key" hint={HINTS.tempo_and_key} />
        </div>
        <FurtherFields />
        {trainingForm.formError.value && (
          <p class="form-error" role="alert">
            <Icon name="alert" /> {trainingForm.formError.value}
          </p>
        )}
        {inspection.value && <DatasetTable inspection={inspection.value} />}
        <div class="button-row end">
          <p class="field-hint">Train only on music whose rights holders allow it.</p>
          <span class="spacer" />
          <button type="button" class="button" disabled={busy !== null} onClick={() => void inspect()}>
            Inspect
          </button>
          <button type="submit" class="button chief" disabled={busy !== null}>
            {busy === "dataset" ? "Uploading…" : busy ? "Sending…" : "Train"}
          </button>
        </div>
      </form>
    </Form.Provider>
  );
}

function NoTrainer() {
  return (
    <div class="training-form">
      <p>No worker trains here yet. Whoever runs this service starts one by this command, with the settings of any worker:</p>
      <pre class="code one-line" tabIndex={0}>
        musicgen worker --trainings
      </pre>
      <p>
        Where everything runs on one machine by <code>musicgen serve</code>, the setting is{" "}
        <code>MUSICGEN_TRAININGS=true</code>.
      </p>
    </div>
  );
}

function DatasetField() {
  const file = dataset.value;
  return (
    <div class="field">
      <DropZone onFile={chooseDataset}>
        <label class="file-button">
          <input
            {...described("dataset", HINTS.dataset, trainingForm)}
            type="file"
            accept=".zip,.tar,.tgz,.gz,audio/*,video/mp4,video/webm"
            onChange={(event) => chooseDataset(event.currentTarget.files?.[0] ?? null)}
          />
          <Icon name="upload" size={18} /> <span>{file ? "Other music" : "Music"}</span>
        </label>
        <p class={file ? "dataset-name" : "drop-hint"}>{file?.name ?? "Drop a zip or tar of songs, or one audio file"}</p>
      </DropZone>
      <FieldNotes name="dataset" hint={HINTS.dataset} />
    </div>
  );
}

function DestinationField() {
  return (
    <FieldShell name="destination" hint={HINTS.destination}>
      <TextInput name="destination" hint={HINTS.destination} placeholder="me/my-songs" list="own-fine-tunes" />
      <datalist id="own-fine-tunes">
        {ownFineTunes.value.map(({ name }) => (
          <option key={name} value={name} />
        ))}
      </datalist>
    </FieldShell>
  );
}

function BaseField() {
  const value = trainingForm.valueOf("version");
  return (
    <FieldShell name="version" label="Trained from">
      <select
        {...described("version", undefined, trainingForm)}
        onChange={(event) => trainingForm.setValue("version", event.currentTarget.value)}
      >
        {trainable.value.map(({ name }) => (
          <option key={name} value={name} selected={name === value}>
            {shortModel(name)}
          </option>
        ))}
      </select>
    </FieldShell>
  );
}

/** What hardly anybody changes, folded away; it opens by itself where something in it is wrong. */
function FurtherFields() {
  const [shown, setShown] = useState(false);
  const wrong = FURTHER.some((name) => trainingForm.fieldErrors.value[name]);
  useEffect(() => {
    if (wrong) setShown(true);
  }, [wrong]);
  return (
    <>
      <button
        type="button"
        class="quiet-button fold"
        aria-expanded={shown}
        aria-controls="training-further"
        onClick={() => setShown(!shown)}
      >
        <Icon name="chevron" size={18} /> <span>More settings</span>
      </button>
      <div id="training-further" class="training-fields" hidden={!shown}>
        {FURTHER.map((name) => (
          <FieldShell key={name} name={name} hint={HINTS[name]}>
            <NumberInput name={name} hint={HINTS[name]} />
          </FieldShell>
        ))}
      </div>
    </>
  );
}
