import { useState } from "preact/hooks";

import type { PredictionRequest } from "./api.ts";
import { DeleteDialog } from "./delete_dialog.tsx";
import { extensionOf, fileName } from "./format.ts";
import { again, reuseSeed, useAsAudio, vary } from "./generate.ts";
import { forget } from "./history.ts";
import { Icon } from "./icons.tsx";
import { LogsDialog } from "./logs.tsx";
import { type Item, Menu } from "./menu.tsx";
import { SnippetsDialog } from "./snippets_dialog.tsx";
import { putAway, remove, type Take } from "./takes.ts";

type Opened = "snippets" | "logs" | "delete" | null;

/** What can be done with a take that has ended. */
export function TakeActions({ take }: { take: Take }) {
  const [opened, setOpened] = useState<Opened>(null);
  const prediction = take.prediction.value;
  const sounds = take.buffer.value !== null;
  const items: Item[] = [
    { label: "Again with this seed", icon: "dice", onSelect: () => reuseSeed(prediction) },
    { label: "Rerun", icon: "loop", onSelect: () => void again(take.id) },
    { label: "Copy the call", icon: "code", onSelect: () => setOpened("snippets") },
    { label: "Logs", icon: "book", onSelect: () => setOpened("logs") },
    { label: "Put away", icon: "close", onSelect: () => putAway(take.id) },
    { label: "Delete", icon: "trash", danger: true, onSelect: () => setOpened("delete") },
  ];
  return (
    <div class="take-actions">
      {sounds && <SoundActions take={take} />}
      <button type="button" class="quiet-button" title="The same settings with a new seed" onClick={() => void vary(prediction)}>
        <Icon name="vary" size={18} /> <span>Vary</span>
      </button>
      <Menu label="More" text="More" icon="chevron" items={items} />
      {opened === "snippets" && (
        <SnippetsDialog request={requestOf(take)} model={prediction.model} onClose={() => setOpened(null)} />
      )}
      {opened === "logs" && <LogsDialog text={take.logs.value} onClose={() => setOpened(null)} />}
      {opened === "delete" && <DeleteTake take={take} onClose={() => setOpened(null)} />}
    </div>
  );
}

function SoundActions({ take }: { take: Take }) {
  return (
    <>
      <button type="button" class="quiet-button" onClick={() => download(take)}>
        <Icon name="download" size={18} /> <span>Download</span>
      </button>
      <button type="button" class="quiet-button" onClick={() => useAsAudio(take, "continue")}>
        <Icon name="forward" size={18} /> <span>Continue this</span>
      </button>
      <button type="button" class="quiet-button" onClick={() => useAsAudio(take, "melody")}>
        <Icon name="melody" size={18} /> <span>Use as melody</span>
      </button>
      <button
        type="button"
        class="quiet-button"
        aria-pressed={take.spectrogram.value}
        onClick={() => (take.spectrogram.value = !take.spectrogram.value)}
      >
        <Icon name="spectrum" size={18} /> <span>Spectrogram</span>
      </button>
    </>
  );
}

function DeleteTake({ take, onClose }: { take: Take; onClose: () => void }) {
  const confirm = async (): Promise<void> => {
    if (await remove(take)) forget(take.id);
    else onClose();
  };
  return (
    <DeleteDialog title="Delete this take?" onDelete={() => void confirm()} onClose={onClose}>
      The service deletes its audio and its record.
    </DeleteDialog>
  );
}

/** Save the bytes that are here already: links to another host cannot name the file. */
function download(take: Take): void {
  if (!take.blob) return;
  const { input, metrics } = take.prediction.value;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(take.blob);
  link.download = fileName(String(input.prompt ?? ""), metrics.seed, extensionOf(input.output_format));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function requestOf(take: Take): PredictionRequest {
  const { input, version } = take.prediction.value;
  return { version, input } as PredictionRequest;
}
