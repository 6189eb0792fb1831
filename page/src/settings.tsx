import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { AnyField, described, FieldNotes, FieldShell, NumberInput, Segments, SelectInput, Toggle } from "./controls.tsx";
import { ADVANCED, FIELDS, labelOf, reasonAgainst } from "./fields.ts";
import { FineTunesButton } from "./fine_tunes_dialog.tsx";
import { abilities, chosenModel, count, fieldErrors, live, longest, MAX_TAKES, setValue, valueOf, version } from "./form.ts";
import { shortModel, shortVersion } from "./format.ts";
import { Icon } from "./icons.tsx";
import { models } from "./service.ts";

/** The settings that everybody uses. */
export function Settings() {
  return (
    <div class="settings">
      <DurationField />
      <TakesField />
      <ModelField />
    </div>
  );
}

function DurationField() {
  const value = String(valueOf("duration"));
  const fraction = (Number(value) - 1) / Math.max(1, longest.value - 1);
  return (
    <FieldShell name="duration">
      <div class="duration">
        <span class="unit" data-unit="s">
          <NumberInput name="duration" maximum={longest.value} />
        </span>
        <input
          type="range"
          aria-label="Seconds"
          min={1}
          max={longest.value}
          value={value}
          style={{ "--filled": `${Math.min(100, Math.max(0, fraction * 100))}%` }}
          onInput={(event) => setValue("duration", event.currentTarget.value)}
        />
      </div>
    </FieldShell>
  );
}

function TakesField() {
  const options = Array.from({ length: MAX_TAKES }, (_, index) => ({ value: `${index + 1}`, label: `${index + 1}` }));
  return (
    <Segments
      legend="How many"
      name="count"
      value={String(count.value)}
      options={options}
      onChange={(value) => (count.value = Number(value))}
    />
  );
}

function ModelField() {
  const error = fieldErrors.value.version;
  const usable = models.value.filter((model) => !model.fine_tune || model.versions.length);
  const options = usable.flatMap((model) =>
    (model.versions.length ? model.versions : [""]).map((one, index) => ({
      value: index > 0 ? `${model.name}:${one}` : model.is_default ? "" : model.name,
      label: index > 0 ? `${shortModel(model.name)} (${shortVersion(one)})` : shortModel(model.name),
    })),
  );
  const known = options.some((option) => option.value === version.value);
  const idle = chosenModel.value?.workers === 0;
  const hint = idle ? "No worker serves it right now: what you ask for waits." : undefined;
  return (
    <div class="field">
      <div class="label-row">
        <label for="field-version">{labelOf("version")}</label>
        <FineTunesButton />
      </div>
      <select
        {...described("version", hint)}
        value={version.value}
        onChange={(event) => (version.value = event.currentTarget.value)}
      >
        {!options.length && <option value="">Loading…</option>}
        {options.map((option) => (
          <option key={option.value} value={option.value} selected={option.value === version.value}>
            {option.label}
          </option>
        ))}
        {!known && options.length > 0 && (
          <option value={version.value} selected>
            {version.value} (not served)
          </option>
        )}
      </select>
      <FieldNotes name="version" hint={error ? undefined : hint} />
    </div>
  );
}

/** Whether everything else is shown. */
export const advancedShown = signal(false);

/** Everything else, folded away; it opens by itself where something in it is wrong. */
export function AdvancedSettings() {
  const inside = [...ADVANCED.map((field) => field.name), "seed", "output_format"];
  const wrong = inside.some((name) => fieldErrors.value[name]);
  useEffect(() => {
    if (wrong) advancedShown.value = true;
  }, [wrong]);
  const formats = FIELDS.get("output_format");
  return (
    <div id="advanced" class="advanced" hidden={!advancedShown.value}>
      <SeedField />
      <FieldShell name="output_format" hint={formats?.description}>
        <SelectInput name="output_format" choices={formats?.choices ?? []} hint={formats?.description} />
      </FieldShell>
      {ADVANCED.filter(({ name }) => name !== "adapter_strength" || chosenModel.value?.fine_tune).map((field) => (
        <AnyField key={field.name} field={field} reason={reasonAgainst(field.name, abilities.value)} />
      ))}
      <div class="field">
        <Toggle label="Live sound" checked={live.value} onChange={(on) => (live.value = on)} />
        <p class="field-hint">Lets you listen while the music is made.</p>
      </div>
    </div>
  );
}

export function AdvancedButton() {
  const shown = advancedShown.value;
  return (
    <button
      type="button"
      class="quiet-button fold"
      aria-expanded={shown}
      aria-controls="advanced"
      onClick={() => (advancedShown.value = !shown)}
    >
      <Icon name="chevron" size={18} /> <span>More settings</span>
    </button>
  );
}

function SeedField() {
  const hint = "Left empty, every take gets a seed of its own. The same seed and settings give the same music.";
  return (
    <FieldShell name="seed" hint={hint}>
      <NumberInput name="seed" hint={hint} placeholder="random" />
    </FieldShell>
  );
}
