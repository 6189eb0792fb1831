import { useEffect, useRef, useState } from "preact/hooks";

import { messageOf } from "./api.ts";
import { clock } from "./format.ts";
import { Icon } from "./icons.tsx";
import { startRecording, type Recording } from "./recording.ts";

/** Record from the microphone. `onDone` gets the file, or null if nothing is wanted. */
export function Recorder({ onDone }: { onDone(file: File | null): void }) {
  const container = useRef<HTMLDivElement>(null);
  const time = useRef<HTMLTimeElement>(null);
  const recording = useRef<Recording | undefined>(undefined);
  const [state, setState] = useState<"asking" | "running" | "failed">("asking");
  const [trouble, setTrouble] = useState("");

  useEffect(() => {
    let gone = false;
    const start = async (): Promise<void> => {
      try {
        if (!container.current) return;
        const started = await startRecording(container.current, (seconds) => {
          if (time.current) time.current.textContent = clock(seconds);
        });
        if (gone) return started.discard();
        recording.current = started;
        setState("running");
      } catch (error) {
        setTrouble(explain(error));
        setState("failed");
      }
    };
    void start();
    return () => {
      gone = true;
      recording.current?.discard();
    };
  }, []);

  const finish = async (): Promise<void> => {
    const file = await recording.current?.finish();
    onDone(file ?? null);
  };
  return (
    <div class="recorder">
      <div class="chosen-head">
        <span class={state === "running" ? "recording-dot on" : "recording-dot"} />
        <p class="chosen-name" role="status">
          {state === "asking" ? "Waiting for the microphone…" : state === "running" ? "Recording" : "Not recording"}
        </p>
        <time ref={time} class="number">
          0:00.0
        </time>
      </div>
      <div class="clip-canvas" ref={container} />
      {state === "failed" && (
        <p class="field-error" role="alert">
          {trouble}
        </p>
      )}
      <div class="button-row">
        <button type="button" class="button" disabled={state !== "running"} onClick={() => void finish()}>
          <Icon name="stop" size={18} /> <span>Stop and use it</span>
        </button>
        <button type="button" class="quiet-button" onClick={() => onDone(null)}>
          Discard
        </button>
      </div>
    </div>
  );
}

function explain(error: unknown): string {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError") return "The browser does not allow this page to use the microphone. Allow it beside the address, then record again.";
  if (name === "NotFoundError") return "There is no microphone.";
  return `The microphone cannot be used: ${messageOf(error)}`;
}
