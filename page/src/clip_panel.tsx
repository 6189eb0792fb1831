import { useEffect, useRef, useState } from "preact/hooks";

import { clip, type Clip, clipFromFile, clipFromUrl } from "./clip.ts";
import { ClipWave } from "./clip_wave.tsx";
import { described, FieldNotes, FieldShell, NumberInput, Segments, SelectInput } from "./controls.tsx";
import { DropZone } from "./drop_zone.tsx";
import { FIELDS, reasonAgainst } from "./fields.ts";
import { abilities, clearError, setValue, valueOf, values } from "./form.ts";
import { Icon } from "./icons.tsx";
import { Recorder } from "./recorder.tsx";

/** Audio to start from: chosen, dropped, recorded, or named by a URL. */
export function ClipPanel() {
  const chosen = clip.value;
  return (
    <div class="clip" role="group" aria-label="Start from audio">
      {chosen ? <ChosenClip chosen={chosen} /> : <ClipSources />}
      <FieldNotes name="input_audio" />
      <FieldNotes name="continuation" />
    </div>
  );
}

function choose(next: Clip | null): void {
  const { continuation_start: _s, continuation_end: _e, ...others } = values.value;
  values.value = others;
  clip.value = next;
  clearError("input_audio");
  clearError("continuation");
  // Where only one of the two is possible, it is chosen.
  if (next && !abilities.value?.melody && abilities.value?.continuation) setValue("continuation", true);
}

function ClipSources() {
  const [mode, setMode] = useState<"idle" | "url" | "record">("idle");
  if (mode === "record") return <Recorder onDone={(file) => (file ? choose(clipFromFile(file)) : setMode("idle"))} />;
  return (
    <DropZone onFile={(file) => choose(clipFromFile(file))}>
      <label class="file-button">
        <input
          {...described("input_audio")}
          type="file"
          accept="audio/*,video/mp4,video/webm"
          onChange={(event) => {
            const file = event.currentTarget.files?.[0];
            if (file) choose(clipFromFile(file));
          }}
        />
        <Icon name="upload" size={18} /> <span>Input audio</span>
      </label>
      <p class="drop-hint">Drop a file to continue it or follow its melody</p>
      <span class="spacer" />
      <button type="button" class="quiet-button" aria-expanded={mode === "url"} onClick={() => setMode(mode === "url" ? "idle" : "url")}>
        By URL
      </button>
      <RecordButton onClick={() => setMode("record")} />
      {mode === "url" && <UrlField />}
    </DropZone>
  );
}

function RecordButton({ onClick }: { onClick: () => void }) {
  // Browsers give the microphone to pages from https and from this machine only.
  const possible = typeof navigator.mediaDevices?.getUserMedia === "function";
  const reason = possible ? undefined : "Recording needs https or localhost";
  return (
    <button type="button" class="quiet-button" disabled={!possible} title={reason} onClick={onClick}>
      <Icon name="microphone" size={18} /> <span>Record</span>
    </button>
  );
}

function UrlField() {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const use = (): void => {
    const url = input.current?.value.trim();
    if (url) choose(clipFromUrl(url));
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    use();
  };
  return (
    <div class="url-row">
      <input ref={input} type="url" aria-label="Address of the audio" placeholder="https://…" onKeyDown={onKeyDown} />
      <button type="button" class="button" onClick={use}>
        Use it
      </button>
    </div>
  );
}

function ChosenClip({ chosen }: { chosen: Clip }) {
  return (
    <div class="chosen">
      <div class="chosen-head">
        <Icon name="melody" size={18} />
        <p class="chosen-name" title={chosen.name}>
          {chosen.name}
        </p>
        <button type="button" class="icon-button" aria-label="Remove the audio" title="Remove the audio" onClick={() => choose(null)}>
          <Icon name="close" size={18} />
        </button>
      </div>
      {chosen.file && <ClipWave key={chosen.name} file={chosen.file} />}
      <ClipFields />
    </div>
  );
}

function ClipFields() {
  const continues = valueOf("continuation") === true;
  const noMelody = reasonAgainst("melody", abilities.value);
  const noContinuation = reasonAgainst("continuation", abilities.value);
  const options = [
    { value: "true", label: "Continue it", reason: noContinuation },
    { value: "false", label: "Follow its melody", reason: noMelody },
  ];
  return (
    <div class="clip-fields">
      <div>
        <Segments
          legend="What to do with it"
          name="continuation"
          value={String(continues)}
          options={options}
          onChange={(value) => setValue("continuation", value === "true")}
        />
        {(noMelody ?? noContinuation) && <p class="field-hint">{noMelody ?? noContinuation}</p>}
      </div>
      <FieldShell name="continuation_start">
        <span class="unit" data-unit="s">
          <NumberInput name="continuation_start" />
        </span>
      </FieldShell>
      <FieldShell name="continuation_end">
        <span class="unit" data-unit="s">
          <NumberInput name="continuation_end" placeholder="end" />
        </span>
      </FieldShell>
      {continues && (
        <FieldShell name="continuation_mode">
          <SelectInput name="continuation_mode" choices={FIELDS.get("continuation_mode")?.choices ?? []} />
        </FieldShell>
      )}
    </div>
  );
}
