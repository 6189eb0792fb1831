import { useState } from "preact/hooks";

import { messageOf, type Model } from "./api.ts";
import { Toggle } from "./controls.tsx";
import { DeleteDialog } from "./delete_dialog.tsx";
import { ownFineTunes, playWith, removeFineTune, setVisibility } from "./fine_tunes.ts";
import { ago, shortModel } from "./format.ts";
import { Icon } from "./icons.tsx";

/** One's own models. `onPlay`: one of them has been chosen. */
export function FineTuneList({ onPlay }: { onPlay(): void }) {
  if (!ownFineTunes.value.length) return <p class="faint">What you train is listed here.</p>;
  return (
    <ul class="trainings" aria-label="Your fine-tunes">
      {ownFineTunes.value.map((model) => (
        <FineTuneItem key={model.name} model={model} onPlay={onPlay} />
      ))}
    </ul>
  );
}

function FineTuneItem({ model, onPlay }: { model: Model; onPlay(): void }) {
  const [asked, setAsked] = useState(false);
  const [trouble, setTrouble] = useState("");
  const { name, versions, fine_tune: own } = model;
  const title = `fine-tune-${name}`;
  const act = async (action: () => Promise<void>): Promise<void> => {
    setTrouble("");
    try {
      await action();
    } catch (error) {
      setTrouble(messageOf(error));
      setAsked(false);
    }
  };
  const play = (): void => {
    onPlay();
    playWith(name, versions[0]!);
  };
  return (
    <li class="training" aria-labelledby={title}>
      <div class="take-head">
        <h3 id={title} class="take-prompt">
          {name}
        </h3>
        <span class="take-model">{own && ago(own.created_at)}</span>
      </div>
      <p class="faint">{factsOf(model)}</p>
      {trouble && (
        <p class="form-error" role="alert">
          <Icon name="alert" /> {trouble}
        </p>
      )}
      <div class="button-row training-actions">
        {versions.length > 0 && (
          <button type="button" class="button" aria-describedby={title} onClick={play}>
            <Icon name="melody" size={18} /> <span>Play with it</span>
          </button>
        )}
        <Toggle
          label="For everybody"
          title="Every token may make music with it"
          checked={own?.visibility === "public"}
          onChange={(on) => void act(() => setVisibility(model, on ? "public" : "private"))}
        />
        <span class="spacer" />
        <button type="button" class="quiet-button" aria-describedby={title} onClick={() => setAsked(true)}>
          <Icon name="trash" size={18} /> <span>Delete</span>
        </button>
      </div>
      {asked && (
        <DeleteDialog
          title={`Delete ${name}?`}
          onDelete={() => void act(() => removeFineTune(model))}
          onClose={() => setAsked(false)}
        >
          The service deletes all its versions. Music that was made with them stays.
        </DeleteDialog>
      )}
    </li>
  );
}

function factsOf({ versions, fine_tune: own }: Model): string {
  if (!versions.length) return "No version yet";
  const number = versions.length === 1 ? "1 version" : `${versions.length} versions`;
  return own?.base ? `${number}, from ${shortModel(own.base)}` : number;
}
