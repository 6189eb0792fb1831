import { useEffect, useRef, useState } from "preact/hooks";

import { Dialog } from "./dialog.tsx";
import { Icon } from "./icons.tsx";
import type { Take } from "./takes.ts";

export function TakeLogs({ take }: { take: Take }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" class="quiet-button" onClick={() => setOpen(true)}>
        <Icon name="book" size={18} /> <span>Logs</span>
      </button>
      {open && <LogsDialog take={take} onClose={() => setOpen(false)} />}
    </>
  );
}

/** The worker's log, which stays at its end while it grows. */
export function LogsDialog({ take, onClose }: { take: Take; onClose: () => void }) {
  const box = useRef<HTMLPreElement>(null);
  const text = take.logs.value;
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
