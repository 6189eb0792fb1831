import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

/** A place that a file can be dropped on. */
export function DropZone({ onFile, children }: { onFile(file: File): void; children: ComponentChildren }) {
  const [over, setOver] = useState(false);
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    setOver(false);
    const file = event.dataTransfer?.files[0];
    if (file) onFile(file);
  };
  const drag = (event: DragEvent): void => {
    event.preventDefault();
    setOver(true);
  };
  return (
    <div class={over ? "drop over" : "drop"} onDragOver={drag} onDragLeave={() => setOver(false)} onDrop={drop}>
      {children}
    </div>
  );
}
