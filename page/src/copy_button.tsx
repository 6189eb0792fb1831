import { useRef, useState } from "preact/hooks";

const SHOWN_MS = 1_600;

/** A button that copies a text and says so. */
export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [state, setState] = useState<"idle" | "copied" | "failed">("idle");
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const copy = async (): Promise<void> => {
    setState((await copied(text)) ? "copied" : "failed");
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setState("idle"), SHOWN_MS);
  };
  const shown = { idle: label, copied: "Copied", failed: "Select the text to copy it" }[state];
  return (
    <>
      <span role="status" class="for-readers">{state === "idle" ? "" : shown}</span>
      <button type="button" class="button" onClick={() => void copy()}>{shown}</button>
    </>
  );
}

async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedTheOldWay(text); // There is no clipboard where the page comes over plain http from another machine.
  }
}

function copiedTheOldWay(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
