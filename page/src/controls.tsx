/** The fields of a form: a label, a control, and below it a hint or what is wrong. */

import { type ComponentChildren, createContext } from "preact";
import { useContext } from "preact/hooks";

import { choiceLabel, type Field, labelOf } from "./fields.ts";
import { musicForm } from "./form.ts";

/** The form that the controls inside belong to. */
export const Form = createContext(musicForm);

interface Shell {
  name: string;
  label?: string;
  hint?: string;
  wide?: boolean;
  children: ComponentChildren;
}

/** What stands around each control. */
export function FieldShell({ name, label, hint, wide, children }: Shell) {
  const { prefix } = useContext(Form);
  return (
    <div class={wide ? "field wide" : "field"}>
      <label for={`${prefix}field-${name}`}>{label ?? labelOf(name)}</label>
      {children}
      <FieldNotes name={name} hint={hint} />
    </div>
  );
}

export function FieldNotes({ name, hint }: { name: string; hint?: string }) {
  const { fieldErrors, prefix } = useContext(Form);
  const error = fieldErrors.value[name];
  return (
    <>
      {error && (
        <p class="field-error" id={`${prefix}error-${name}`} role="alert">
          {error}
        </p>
      )}
      {hint && !error && (
        <p class="field-hint" id={`${prefix}hint-${name}`}>
          {hint}
        </p>
      )}
    </>
  );
}

/** What ties a control to its notes. */
export function described(name: string, hint?: string, { fieldErrors, prefix } = musicForm) {
  const error = fieldErrors.value[name];
  return {
    id: `${prefix}field-${name}`,
    "aria-invalid": error ? ("true" as const) : undefined,
    "aria-describedby": error ? `${prefix}error-${name}` : hint ? `${prefix}hint-${name}` : undefined,
  };
}

interface NumberProps {
  name: string;
  hint?: string;
  placeholder?: string;
  maximum?: number;
  step?: number;
  disabled?: boolean;
}

export function NumberInput({ name, hint, placeholder, maximum, step, disabled }: NumberProps) {
  const form = useContext(Form);
  const field = form.fields.get(name);
  return (
    <input
      {...described(name, hint, form)}
      type="number"
      inputMode={field?.type === "integer" ? "numeric" : "decimal"}
      min={field?.minimum}
      max={maximum ?? field?.maximum}
      step={step ?? (field?.type === "integer" ? 1 : "any")}
      placeholder={placeholder}
      disabled={disabled}
      autocomplete="off"
      value={String(form.valueOf(name))}
      onInput={(event) => form.setValue(name, event.currentTarget.value)}
    />
  );
}

export function SelectInput({ name, choices, hint }: { name: string; choices: readonly string[]; hint?: string }) {
  const form = useContext(Form);
  const value = String(form.valueOf(name));
  return (
    <select {...described(name, hint, form)} value={value} onChange={(event) => form.setValue(name, event.currentTarget.value)}>
      {choices.map((choice) => (
        <option key={choice} value={choice} selected={choice === value}>
          {choiceLabel(choice)}
        </option>
      ))}
    </select>
  );
}

/** A field of the API, drawn by its type. `reason`: why it cannot be used. */
export function AnyField({ field, reason }: { field: Field; reason?: string }) {
  const hint = reason ?? plain(field.description);
  if (field.type === "boolean") return <SwitchField name={field.name} hint={hint} disabled={reason !== undefined} />;
  return (
    <FieldShell name={field.name} hint={hint}>
      {field.choices ? (
        <SelectInput name={field.name} choices={field.choices} hint={hint} />
      ) : field.type === "string" ? (
        <TextInput name={field.name} hint={hint} />
      ) : (
        <NumberInput name={field.name} hint={hint} step={field.type === "integer" ? 1 : 0.05} />
      )}
    </FieldShell>
  );
}

export function TextInput({ name, hint, ...others }: { name: string; hint?: string; placeholder?: string; list?: string }) {
  const form = useContext(Form);
  return (
    <input
      {...described(name, hint, form)}
      {...others}
      type="text"
      value={String(form.valueOf(name))}
      onInput={(event) => form.setValue(name, event.currentTarget.value)}
    />
  );
}

export function SwitchField({ name, hint, disabled }: { name: string; hint?: string; disabled?: boolean }) {
  const form = useContext(Form);
  return (
    <div class="field">
      <label class="switch">
        <input
          {...described(name, hint, form)}
          type="checkbox"
          role="switch"
          checked={form.valueOf(name) === true}
          disabled={disabled}
          onChange={(event) => form.setValue(name, event.currentTarget.checked)}
        />
        <span>{labelOf(name)}</span>
      </label>
      <FieldNotes name={name} hint={hint} />
    </div>
  );
}

interface ToggleProps {
  label: string;
  checked: boolean;
  disabled?: boolean;
  title?: string;
  onChange(checked: boolean): void;
}

export function Toggle({ label, checked, disabled, title, onChange }: ToggleProps) {
  return (
    <label class="switch" title={title}>
      <input
        type="checkbox"
        role="switch"
        checked={checked}
        disabled={disabled}
        onChange={(event) => onChange(event.currentTarget.checked)}
      />
      <span>{label}</span>
    </label>
  );
}

interface SegmentProps {
  legend: string;
  name: string;
  value: string;
  options: readonly { value: string; label: string; reason?: string }[];
  onChange(value: string): void;
}

/** A few choices side by side. */
export function Segments({ legend, name, value, options, onChange }: SegmentProps) {
  return (
    <fieldset class="field segments">
      <legend>{legend}</legend>
      <div class="segment-row">
        {options.map((option) => (
          <label key={option.value} class="segment" title={option.reason}>
            <input
              type="radio"
              name={name}
              value={option.value}
              checked={option.value === value}
              disabled={option.reason !== undefined}
              onChange={() => onChange(option.value)}
            />
            <span>{option.label}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

/** A description without the marks that set code apart. */
function plain(text: string | undefined): string | undefined {
  return text?.replaceAll("`", "");
}
