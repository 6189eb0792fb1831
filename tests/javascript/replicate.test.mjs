// Replicate's own JavaScript client, unmodified: only its base URL is another one.
// BASE_URL: of a running service. MODEL: owner/name.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import Replicate, { parseProgressFromLogs, validateWebhook } from "replicate";

const { BASE_URL, MODEL } = process.env;
const client = new Replicate({ auth: "none is asked for", baseUrl: `${BASE_URL}/v1` });
const version = (await client.models.get(...MODEL.split("/"))).latest_version.id;
const WAV_HEADER_BYTES = 44;
const short = { prompt: "piano", duration: 1 };

function tone() {
  const header = Buffer.from("RIFF----WAVEfmt \x10\0\0\0\x01\0\x01\0----****\x02\0\x10\0data----", "latin1");
  const samples = Buffer.alloc(64_000);
  for (let i = 0; i < 32_000; i++) samples.writeInt16LE(8_000 * Math.sin(i * 0.0864), 2 * i);
  header.writeUInt32LE(64_036, 4);
  header.writeUInt32LE(32_000, 24);
  header.writeUInt32LE(64_000, 28);
  header.writeUInt32LE(64_000, 40);
  return new File([header, samples], "tone.wav", { type: "audio/wav" });
}

async function sound(url) {
  const response = await fetch(url);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "audio/wav");
  const content = Buffer.from(await response.arrayBuffer());
  // Without the tags behind the samples, which name the prediction.
  return content.subarray(WAV_HEADER_BYTES, WAV_HEADER_BYTES + content.readUInt32LE(40));
}

const seconds = (samples) => samples.length / 64_000;

test("run gives the output's URL, by name and by version, with and without waiting", async () => {
  for (const reference of [MODEL, `${MODEL}:${version}`]) {
    for (const wait of [{ mode: "block" }, { mode: "poll", interval: 50 }]) {
      const url = await client.run(reference, { input: short, wait });
      assert.equal(seconds(await sound(url)), 1);
    }
  }
});

test("run takes audio as a file, a URL and a data URI", async () => {
  const input = { continuation: true, duration: 1, seed: 3 };
  const uploaded = await client.files.create(tone(), { of: "a test" });
  assert.deepEqual(uploaded.metadata, { of: "a test" });
  const inline = `data:audio/wav;base64,${Buffer.from(await tone().arrayBuffer()).toString("base64")}`;
  const urls = [
    await client.run(MODEL, { input: { ...input, input_audio: tone() } }),
    await client.run(MODEL, { input: { ...input, input_audio: uploaded.urls.get } }),
    await client.run(MODEL, { input: { ...input, input_audio: inline } }),
  ];
  const sounds = await Promise.all(urls.map(sound));
  assert.equal(seconds(sounds[0]), 2);
  assert.ok(sounds.every((other) => other.equals(sounds[0])));
});

test("the client's own token is not kept where it posts itself as the input", async () => {
  // With this strategy version 1.4.0 sends the client object in the input's place.
  const careless = new Replicate({ auth: "a secret", baseUrl: `${BASE_URL}/v1`, fileEncodingStrategy: "data-uri" });
  await assert.rejects(careless.run(MODEL, { input: short }), (error) => {
    assert.match(error.message, /422.*prompt/);
    assert.doesNotMatch(error.message, /a secret/);
    return true;
  });
});

test("files", async () => {
  const file = await client.files.create(tone());
  assert.equal((await client.files.get(file.id)).name, "tone.wav");
  assert.ok((await client.files.list()).results.some((listed) => listed.id === file.id));
  assert.equal(await client.files.delete(file.id), true);
  await assert.rejects(client.files.get(file.id), /404/);
});

test("a prediction is created, read, waited for, listed, with its progress", async () => {
  let prediction = await client.predictions.create({ version, input: { ...short, seed: 7 } });
  assert.equal(prediction.status, "starting");
  prediction = await client.wait(prediction, { interval: 50 });
  assert.equal(prediction.status, "succeeded");
  assert.equal(prediction.error, null);
  assert.ok(prediction.metrics.predict_time > 0);
  assert.equal(parseProgressFromLogs(prediction).percentage, 1);
  assert.equal((await client.predictions.get(prediction.id)).output.split("?")[0], prediction.output.split("?")[0]);
  assert.equal((await client.predictions.list()).results[0].id, prediction.id);
});

test("cancelling, and aborting a run", async () => {
  const { id } = await client.predictions.create({ model: MODEL, input: { prompt: "a", duration: 30 } });
  assert.equal((await client.predictions.cancel(id)).status, "canceled");
  const abort = new AbortController();
  let last;
  await client.run(
    MODEL,
    { input: { prompt: "a", duration: 30 }, wait: { mode: "poll", interval: 20 }, signal: abort.signal },
    (prediction) => { last = prediction; abort.abort(); },
  ).catch((error) => assert.equal(error.name, "AbortError"));
  assert.ok(last.id);
});

test("models, versions, deployments, account, hardware, the webhooks' secret", async () => {
  const [owner, name] = MODEL.split("/");
  assert.equal((await client.models.list()).results[0].name, name);
  assert.equal((await client.models.versions.list(owner, name)).results[0].id, version);
  const destination = { visibility: "private", hardware: "local", description: "From JavaScript." };
  const created = await client.models.create("ann", "from-javascript", destination);
  assert.equal(created.description, "From JavaScript.");
  assert.equal((await client.models.get("ann", "from-javascript")).latest_version, null);
  const found = await client.models.versions.get(owner, name, version);
  assert.equal(found.openapi_schema.components.schemas.Output.format, "uri");
  assert.equal((await client.deployments.get(owner, name)).current_release.version, version);
  const prediction = await client.deployments.predictions.create(owner, name, { input: short });
  assert.equal((await client.wait(prediction, { interval: 50 })).status, "succeeded");
  assert.equal((await client.accounts.current()).type, "organization");
  assert.equal((await client.hardware.list())[0].sku, "local");
  assert.match((await client.webhooks.default.secret.get()).key, /^whsec_/);
});

test("a webhook is validated by the client", async () => {
  const receiver = createServer().listen(0, "127.0.0.1");
  await once(receiver, "listening");
  const webhook = `http://127.0.0.1:${receiver.address().port}`;
  const arriving = once(receiver, "request");
  const { id } = await client.predictions.create({
    version, input: short, webhook, webhook_events_filter: ["completed"],
  });
  const [request, response] = await arriving;
  const body = Buffer.concat(await request.toArray()).toString();
  response.end();
  receiver.close();
  receiver.closeAllConnections();
  const { key } = await client.webhooks.default.secret.get();
  assert.equal(await validateWebhook({ headers: request.headers, body }, key), true);
  assert.equal(await validateWebhook({ headers: request.headers, body: `${body} ` }, key), false);
  assert.equal(JSON.parse(body).id, id);
});

test("streaming", async () => {
  const events = [];
  for await (const event of client.stream(`${MODEL}:${version}`, { input: short })) events.push(event);
  assert.equal(events.at(-1).event, "done");
  assert.ok(events.find(({ event }) => event === "output").data.startsWith("http"));
  assert.ok(events.every(({ event, id }) => ["output", "logs", "done"].includes(event) && id));
});

test("pages", async () => {
  const first = await client.predictions.list();
  let count = 0;
  for await (const page of client.paginate(() => Promise.resolve(first))) {
    count += page.length;
    if (count >= 250) break;
  }
  assert.ok(count >= 5);
});

test("what is wrong is told", async () => {
  const refused = (input, status, words) =>
    assert.rejects(client.predictions.create({ version, input }), (error) => {
      assert.equal(error.response.status, status);
      assert.match(error.message, words);
      return true;
    });
  await refused({ prompt: "a", duration: 31 }, 422, /duration/);
  await refused({}, 422, /prompt/);
  await assert.rejects(client.run("nobody/nothing", { input: short }), /404/);
  const broken = new File(["this is no audio"], "x.wav");
  const failing = client.run(MODEL, { input: { input_audio: broken, continuation: true } });
  await assert.rejects(failing, /Prediction failed: .*audio/i);
});
