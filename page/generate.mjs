// Writes what the page knows of the API from docs/openapi.json: its types, and the fields of an input and of a training.
import { readFile, writeFile } from "node:fs/promises";

import openapiTS, { astToString } from "openapi-typescript";

const source = new URL("../docs/openapi.json", import.meta.url);
const target = (name) => new URL(`src/${name}.gen.ts`, import.meta.url);
const document = JSON.parse(await readFile(source, "utf8"));

// Fields with a default need not be sent.
const types = await openapiTS(source, { defaultNonNullable: false });
await writeFile(target("schema"), astToString(types));

const { schemas } = document.components;
const resolve = (schema) => {
  const named = schema.$ref ? schemas[schema.$ref.split("/").pop()] : {};
  const whole = { ...named, ...schema };
  const alternative = whole.anyOf?.find((one) => one.type !== "null") ?? {};
  return { ...resolved(alternative), ...whole };
};
const resolved = (schema) => (schema.$ref ? resolve(schema) : schema);

const fieldsOf = ({ properties }) =>
  Object.entries(properties).map(([name, property]) => {
    const { type, title, description, default: initial, minimum, maximum, maxLength, enum: choices } = resolve(property);
    return { name, type, title, description, initial, minimum, maximum, maxLength, choices };
  });
const constant = (name, schema) =>
  `export const ${name}: readonly Field[] = ${JSON.stringify(fieldsOf(schema), null, 2)};\n`;
await writeFile(
  target("input"),
  `import type { Field } from "./fields.ts";\n\n` +
    constant("INPUT_FIELDS", schemas.Input) +
    constant("TRAINING_FIELDS", schemas.TrainingSettings),
);
