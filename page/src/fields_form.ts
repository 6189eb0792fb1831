/** A form of fields that the API describes: what stands in them, and what is wrong with it. */

import { type Signal, signal } from "@preact/signals";

import type { Problem } from "./api.ts";
import { type Field, labelOf } from "./fields.ts";

export type Values = Readonly<Record<string, string | boolean>>;

export interface FieldsForm {
  readonly fields: ReadonlyMap<string, Field>;
  /** What the ids of its controls begin with. */
  readonly prefix: string;
  /** What stands in the fields; a field that the user has not touched is missing. */
  readonly values: Signal<Values>;
  readonly fieldErrors: Signal<Readonly<Record<string, string>>>;
  readonly formError: Signal<string | null>;
  /** What a field has: the user's value, else its default. */
  valueOf(name: string): string | boolean;
  setValue(name: string, value: string | boolean): void;
  clearError(name: string): void;
  clearErrors(): void;
  /** Show what the service says is wrong, at the fields that it names. */
  showProblem(problem: Problem | undefined, message: string): void;
  /** What was entered, in the types of the API. */
  entered(): Record<string, unknown>;
}

interface Options {
  fields: ReadonlyMap<string, Field>;
  /** Names that have a place in the form beside the fields. */
  others: readonly string[];
  prefix: string;
  /** A default that goes before the API's. */
  defaultOf?(name: string): unknown;
}

export function fieldsForm({ fields, others, prefix, defaultOf }: Options): FieldsForm {
  const values = signal<Values>({});
  const fieldErrors = signal<Readonly<Record<string, string>>>({});
  const formError = signal<string | null>(null);

  function valueOf(name: string): string | boolean {
    const given = values.value[name];
    if (given !== undefined) return given;
    const initial = defaultOf?.(name) ?? fields.get(name)?.initial;
    if (typeof initial === "boolean") return initial;
    return initial === undefined || initial === null ? "" : String(initial);
  }

  function setValue(name: string, value: string | boolean): void {
    values.value = { ...values.value, [name]: value };
    clearError(name);
  }

  function clearError(name: string): void {
    if (!(name in fieldErrors.value)) return;
    const { [name]: _, ...rest } = fieldErrors.value;
    fieldErrors.value = rest;
  }

  function clearErrors(): void {
    fieldErrors.value = {};
    formError.value = null;
  }

  function showProblem(problem: Problem | undefined, message: string): void {
    const errors: Record<string, string> = {};
    const rest: string[] = [];
    for (const { field, message: wrong, remedy } of problem?.errors ?? []) {
      const name = field.replace(/^input\./, "");
      if (fields.has(name) || others.includes(name)) errors[name] = `${sentence(name, wrong)}: ${remedy}.`;
      else rest.push(`${sentence(name, wrong)}: ${remedy}.`);
    }
    fieldErrors.value = errors;
    formError.value = rest.length ? rest.join(" ") : Object.keys(errors).length ? null : message;
  }

  function entered(): Record<string, unknown> {
    const input: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(values.value)) {
      const type = fields.get(name)?.type;
      if (type === "integer" || type === "number") {
        if (value !== "") input[name] = Number(value);
      } else if (fields.has(name)) {
        input[name] = value;
      }
    }
    return input;
  }

  return { fields, prefix, values, fieldErrors, formError, valueOf, setValue, clearError, clearErrors, showProblem, entered };
}

function sentence(name: string, wrong: string): string {
  if (/^(is|needs|has|should|must|cannot)\b/.test(wrong)) return `${labelOf(name)} ${wrong}`;
  // A name that begins the sentence, such as a model's, stays as it is.
  return /^[a-z]+[ ,]/.test(wrong) ? wrong[0]!.toUpperCase() + wrong.slice(1) : wrong;
}
