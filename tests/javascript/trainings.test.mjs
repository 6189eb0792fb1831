// Trainings by Replicate's own JavaScript client, unmodified.
// BASE_URL: of a running service with a worker that trains. MODEL: owner/name of the base. SONGS: a zip. QUICK: an input.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import Replicate from "replicate";

const { BASE_URL, MODEL, SONGS, QUICK } = process.env;
const client = new Replicate({ auth: "none is asked for", baseUrl: `${BASE_URL}/v1` });
const [owner, name] = MODEL.split("/");
const version = (await client.models.get(owner, name)).latest_version.id;
const destination = "me/javascript";

test("a training is created, read, waited for, listed and used", async () => {
  await client.models.create("me", "javascript", { visibility: "private", hardware: "any" });
  // The client uploads files of predictions' inputs, and not those of trainings'.
  const file = await client.files.create(new Blob([await readFile(SONGS)]));
  const input = { dataset: file.urls.get, ...JSON.parse(QUICK) };
  let training = await client.trainings.create(owner, name, version, { destination, input });
  assert.equal(training.status, "starting");
  while (["starting", "processing"].includes(training.status)) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    training = await client.trainings.get(training.id);
  }
  assert.equal(training.error, null);
  assert.match(training.output.version, /^me\/javascript:[0-9a-f]{64}$/);
  assert.ok(training.metrics.predict_time > 0);
  assert.equal((await client.trainings.list()).results[0].id, training.id);
  const found = await client.models.versions.get("me", "javascript", training.output.version.split(":")[1]);
  assert.ok(found.openapi_schema);
});

test("a training is cancelled", async () => {
  const input = { dataset: "https://example.com/songs.zip", ...JSON.parse(QUICK) };
  const { id } = await client.trainings.create(owner, name, version, { destination, input });
  assert.equal((await client.trainings.cancel(id)).status, "canceled");
});

test("what is wrong is told", async () => {
  const input = { dataset: "https://example.com/songs.zip" };
  await assert.rejects(client.trainings.create(owner, name, version, { destination: "me/nothing", input }), /POST \/v1\/models/);
  await assert.rejects(client.trainings.create(owner, name, version, { destination, input: {} }), /dataset/);
  await assert.rejects(client.trainings.get("nothing"), /404/);
});
