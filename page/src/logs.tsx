import { useEffect, useRef, useState } from "preact/hooks";

import { Dialog } from "./dialog.tsx";
import { Icon } from "./icons.tsx";

/** A button that opens a log. */
export function LogsButton({ text }: { text: string }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" class="quiet-button" onClick={() => setOpen(true)}>
        <Icon name="book" size={18} /> <span>Logs</span>
      </button>
      {open && <LogsDialog text={text} onClose={() => setOpen(false)} />}
    </>
  );
}

/** A worker's log, which stays at its end while it grows. */
export function LogsDialog({ text, onClose }: { text: string; onClose: () => void }) {
  const box = useRef<HTMLPreElement>(null);
  useEffect(() => {
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  return (
    <Dialog title="Logs" wide onClose={onClose}>
      <pre class="code" tabIndex={0} ref={box}>
        {text || "Nothing has been logged yet."}
      </pre>
    </Dialog>
  );
}
