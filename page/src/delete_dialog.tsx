import type { ComponentChildren } from "preact";

import { Dialog } from "./dialog.tsx";

interface Props {
  title: string;
  onDelete(): void;
  onClose(): void;
  children: ComponentChildren;
}

/** Asks before something is deleted. */
export function DeleteDialog({ title, onDelete, onClose, children }: Props) {
  return (
    <Dialog title={title} onClose={onClose}>
      <p>{children} This cannot be undone.</p>
      <div class="button-row end">
        <button type="button" class="button" onClick={onClose}>
          Keep it
        </button>
        <button type="button" class="button danger" onClick={onDelete}>
          Delete
        </button>
      </div>
    </Dialog>
  );
}
