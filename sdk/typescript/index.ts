/** A typed client: `client.GET("/predictions/{prediction_id}", ...)`, every path, body and answer from the document. */
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type MusicGen = Client<paths>;
export type Prediction = components["schemas"]["Prediction"];
export type Problem = components["schemas"]["Problem"];
export type { components, paths } from "./schema.js";

/** `baseUrl`: the server's address, without a slash at its end. `token`: where the server asks for one. */
export function musicgen(baseUrl: string, token?: string): MusicGen {
  return createClient<paths>({ baseUrl, headers: token ? { Authorization: `Bearer ${token}` } : {} });
}
