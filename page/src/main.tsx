import { effect } from "@preact/signals";
import { render } from "preact";

import { messageOf, offline } from "./api.ts";
import { App } from "./app.tsx";
import { readAddress, writeAddress } from "./form.ts";
import { forgetAll, historyError, refreshHistory } from "./history.ts";
import { listenForKeys } from "./keyboard.ts";
import { loadModels, watchService } from "./service.ts";
import { signedOut } from "./session.ts";
import { recall, resume, takes } from "./takes.ts";
import { forgetTrainings, refreshTrainings } from "./trainings.ts";

/** Read what the page shows besides the models. */
async function load(): Promise<void> {
  if (signedOut.value) return;
  const recalled = takes.value.length ? Promise.resolve(resume()) : recall();
  try {
    await Promise.all([recalled, refreshLists()]);
  } catch (error) {
    if (!signedOut.value) historyError.value = messageOf(error);
  }
}

async function refreshLists(): Promise<void> {
  await Promise.all([refreshHistory(), refreshTrainings()]);
}

async function signedIn(): Promise<void> {
  signedOut.value = false;
  await loadModels();
  await load();
}

readAddress();
writeAddress();
listenForKeys();
watchService();
void load();

// Another token sees other predictions.
effect(() => {
  if (!signedOut.value) return;
  forgetAll();
  forgetTrainings();
});
// What could not be read while nothing answered is read when something does.
let missed = false;
effect(() => {
  if (offline.value) missed = true;
  else if (missed) {
    missed = false;
    queueMicrotask(() => void (takes.value.length ? refreshLists() : load()));
  }
});

const root = document.getElementById("page");
if (root) render(<App onSignIn={() => void signedIn()} />, root);
