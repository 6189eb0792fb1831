// A hundred calls of Replicate's client, all the same; prints the ids that it got.
import Replicate from "replicate";

const { BASE_URL, VERSION } = process.env;
const client = new Replicate({ auth: "none is asked for", baseUrl: `${BASE_URL}/v1` });
const ids = [];
for (let i = 0; i < 100; i++) {
  ids.push((await client.predictions.create({ version: VERSION, input: { prompt: "the same" } })).id);
}
console.log(JSON.stringify(ids));
