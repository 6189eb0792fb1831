import { useState } from "preact/hooks";

import { ClipPanel } from "./clip_panel.tsx";
import { described, FieldNotes } from "./controls.tsx";
import { FIELDS, labelOf } from "./fields.ts";
import { formError, setValue, valueOf } from "./form.ts";
import { generate, sending } from "./generate.ts";
import { Icon } from "./icons.tsx";
import { modelsKnown } from "./service.ts";
import { AdvancedButton, AdvancedSettings, Settings } from "./settings.tsx";
import { SnippetsDialog } from "./snippets_dialog.tsx";

const EXAMPLES = [
  "Warm lo-fi piano with soft drums",
  "Bright happy marimba, no drums",
  "Dark slow cello over a deep drone",
  "Fast eighties synth pop with a driving bass",
  "Sad solo guitar in a large hall",
];
const NEARLY_FULL = 200;

/** Where music is described and asked for. */
export function Composer() {
  const submit = (event: Event): void => {
    event.preventDefault();
    void generate();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) submit(event);
  };
  return (
    <form class="composer panel" aria-label="Make music" noValidate onSubmit={submit} onKeyDown={onKeyDown}>
      <PromptField />
      <Examples />
      <Settings />
      <ClipPanel />
      <AdvancedSettings />
      <ComposerFoot />
    </form>
  );
}

function PromptField() {
  const text = String(valueOf("prompt"));
  const most = FIELDS.get("prompt")?.maxLength ?? 2000;
  const left = most - text.length;
  return (
    <div class="prompt-field">
      <label for="field-prompt">{labelOf("prompt")}</label>
      <textarea
        {...described("prompt")}
        class="prompt"
        rows={2}
        placeholder="Describe the music: instruments, mood, tempo, place…"
        value={text}
        onInput={(event) => setValue("prompt", event.currentTarget.value)}
      />
      {left < NEARLY_FULL && (
        <p class="field-hint" role="status">
          {left >= 0 ? `${left} characters left` : `${-left} characters too many`}
        </p>
      )}
      <FieldNotes name="prompt" />
    </div>
  );
}

function Examples() {
  return (
    <ul class="examples" aria-label="Examples">
      {EXAMPLES.map((example) => (
        <li key={example}>
          <button type="button" class="chip" onClick={() => setValue("prompt", example)}>
            {example}
          </button>
        </li>
      ))}
    </ul>
  );
}

function ComposerFoot() {
  const [snippets, setSnippets] = useState(false);
  const busy = sending.value;
  const label = busy === "audio" ? "Uploading the audio…" : busy ? "Sending…" : "Generate";
  return (
    <div class="composer-foot">
      {formError.value && (
        <p class="form-error" role="alert">
          <Icon name="alert" /> {formError.value}
        </p>
      )}
      <AdvancedButton />
      <span class="spacer" />
      <button type="button" class="quiet-button" onClick={() => setSnippets(true)}>
        <Icon name="code" size={18} /> <span>Copy the call</span>
      </button>
      <button type="submit" class="generate" disabled={busy !== null || !modelsKnown.value}>
        <span>{label}</span>
        <kbd aria-hidden="true">{/Mac|iPhone|iPad/.test(navigator.platform) ? "⌘ ↵" : "Ctrl ↵"}</kbd>
      </button>
      {snippets && <SnippetsDialog onClose={() => setSnippets(false)} />}
    </div>
  );
}
