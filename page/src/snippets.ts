/**
 * The same request in four languages. Each snippet runs as it stands: it creates the prediction, waits for its end,
 * and saves the music. Pure functions, so that tests can run what they return.
 */

import { extensionOf } from "./format.ts";

export interface Call {
  /** The service's address, without a slash at the end. */
  readonly baseUrl: string;
  /** Whether requests need a token; snippets read it from the environment variable MUSICGEN_TOKEN. */
  readonly needsToken: boolean;
  /** The model as owner/name, for clients that need it in every call. */
  readonly model: string;
  /** The body of POST /predictions. */
  readonly body: Body;
}

interface Body {
  readonly version?: string | null;
  readonly input: Readonly<Record<string, unknown>>;
}

export interface Snippet {
  readonly id: string;
  readonly label: string;
  /** The file name to run it under. */
  readonly file: string;
  /** What to install first, if anything. */
  readonly needs?: string;
  readonly code: string;
}

export function snippetsOf(call: Call): Snippet[] {
  const needs = call.needsToken ? "Set MUSICGEN_TOKEN to your token." : undefined;
  const install = ["pip install replicate", needs].filter(Boolean).join(". ");
  return [
    { id: "curl", label: "curl", file: "music.sh", needs, code: curl(call) },
    { id: "python", label: "Python", file: "music.py", needs, code: python(call) },
    { id: "replicate", label: "Python with replicate", file: "music_replicate.py", needs: install, code: replicate(call) },
    { id: "javascript", label: "JavaScript", file: "music.mjs", needs, code: javascript(call) },
  ];
}

export function curl({ baseUrl, needsToken, body }: Call): string {
  const auth = needsToken ? ` -H "Authorization: Bearer $MUSICGEN_TOKEN"` : "";
  const read = (what: string): string => `python3 -c 'import json, sys; p = json.load(sys.stdin); print(${what})'`;
  return `BASE=${shellWord(baseUrl)}

ID=$(curl -sS --fail-with-body $BASE/predictions${auth} \\
  -H 'Content-Type: application/json' \\
  -d ${shellQuoted(JSON.stringify(body, null, 2))} \\
  | ${read('p["id"]')})

until curl -sS $BASE/predictions/$ID${auth} | grep -qE '"status":"(succeeded|failed|canceled)"'
do sleep 1
done

URL=$(curl -sS $BASE/predictions/$ID${auth} \\
  | ${read('p["output"] or sys.exit(p["error"] or p["status"])')})
[ -n "$URL" ] && curl -sS -o ${outputName(body)} "$URL"
`;
}

export function python({ baseUrl, needsToken, body }: Call): string {
  const token = needsToken ? `\nHEADERS["Authorization"] = "Bearer " + os.environ["MUSICGEN_TOKEN"]` : "";
  return `import json
${needsToken ? "import os\n" : ""}import time
from urllib.request import Request, urlopen, urlretrieve

BASE = ${pythonValue(baseUrl)}
HEADERS = {"Content-Type": "application/json"}${token}
BODY = ${pythonValue(body)}


def call(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(BASE + path, data, HEADERS)) as answer:
        return json.load(answer)


prediction = call("/predictions", BODY)
while prediction["status"] in ("starting", "processing"):
    time.sleep(1)
    prediction = call("/predictions/" + prediction["id"])

if prediction["status"] != "succeeded":
    raise SystemExit(prediction["error"] or prediction["status"])
urlretrieve(prediction["output"], ${pythonValue(outputName(body))})
print(${pythonValue(outputName(body))}, prediction["metrics"])
`;
}

export function replicate({ baseUrl, needsToken, model, body }: Call): string {
  const token = needsToken ? `os.environ["MUSICGEN_TOKEN"]` : `"any"`;
  const input = Object.fromEntries(Object.entries(body.input).filter(([, value]) => value !== null));
  return `${needsToken ? "import os\n" : ""}from urllib.request import urlretrieve

import replicate

client = replicate.Client(api_token=${token}, base_url=${pythonValue(baseUrl)})
output = client.run(${pythonValue(replicateModel(model, body.version))}, input=${pythonValue(input)})
urlretrieve(str(output), ${pythonValue(outputName(body))})
print(output)
`;
}

export function javascript({ baseUrl, needsToken, body }: Call): string {
  const token = needsToken ? ",\n  Authorization: `Bearer ${process.env.MUSICGEN_TOKEN}`," : ",";
  return `import { writeFile } from "node:fs/promises";

const base = ${JSON.stringify(baseUrl)};
const headers = {
  "Content-Type": "application/json"${token}
};
const body = ${JSON.stringify(body, null, 2)};

async function call(path, options = {}) {
  const response = await fetch(base + path, { headers, ...options });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

let prediction = await call("/predictions", { method: "POST", body: JSON.stringify(body) });
while (["starting", "processing"].includes(prediction.status)) {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  prediction = await call(\`/predictions/\${prediction.id}\`);
}

if (prediction.status !== "succeeded") throw new Error(prediction.error ?? prediction.status);
const music = await fetch(prediction.output);
await writeFile(${JSON.stringify(outputName(body))}, Buffer.from(await music.arrayBuffer()));
console.log(${JSON.stringify(outputName(body))}, prediction.metrics);
`;
}

function outputName(body: Body): string {
  return `music.${extensionOf(body.input.output_format)}`;
}

/** `owner/name` runs the current version; another version is named behind a colon. */
function replicateModel(model: string, version: string | null | undefined): string {
  if (!version) return model;
  return version.includes("/") ? version : `${model}:${version}`;
}

export function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function shellWord(text: string): string {
  return /^[\w.:/@%+-]+$/.test(text) ? text : shellQuoted(text);
}

/** Return the value as a Python literal. */
export function pythonValue(value: unknown, indent = ""): string {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map((one) => pythonValue(one, indent)).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const lines = Object.entries(value)
    .filter(([, one]) => one !== undefined)
    .map(([name, one]) => `${inner}${JSON.stringify(name)}: ${pythonValue(one, inner)},\n`);
  return lines.length ? `{\n${lines.join("")}${indent}}` : "{}";
}
