import { useState } from "preact/hooks";

import { messageOf, webhookSecret } from "./api.ts";
import { CopyButton } from "./copy_button.tsx";
import { Dialog } from "./dialog.tsx";
import { type Item, Menu } from "./menu.tsx";
import { signOut, token } from "./session.ts";
import { putAllAway } from "./takes.ts";

function leave(): void {
  putAllAway();
  signOut();
}

/** The reference, the webhook secret, and signing out. */
export function Account() {
  const [secret, setSecret] = useState(false);
  const items: Item[] = [
    { label: "Webhook secret", icon: "key", onSelect: () => setSecret(true) },
    { label: "Licences", icon: "book", href: "/page/licenses.txt" },
    ...(token.value === null ? [] : [{ label: "Sign out", icon: "close" as const, onSelect: leave }]),
  ];
  return (
    <>
      <Menu label="More about this service" icon="more" items={items} />
      {secret && <SecretDialog onClose={() => setSecret(false)} />}
    </>
  );
}

function SecretDialog({ onClose }: { onClose: () => void }) {
  const [value, setValue] = useState("");
  const [trouble, setTrouble] = useState("");
  const show = (): void => {
    setTrouble("");
    webhookSecret().then(setValue, (error: unknown) => setTrouble(messageOf(error)));
  };
  return (
    <Dialog title="Webhook secret" onClose={onClose}>
      <p>It signs every webhook that this service sends. Receivers verify the signature with it, so keep it to yourself.</p>
      {trouble && (
        <p class="field-error" role="alert">
          {trouble}
        </p>
      )}
      <pre class="code one-line" tabIndex={0}>
        {value || "whsec_••••••••••••••••••••••••••••••••"}
      </pre>
      <div class="button-row end">
        {value ? (
          <CopyButton text={value} />
        ) : (
          <button type="button" class="button" onClick={show}>
            Show it
          </button>
        )}
      </div>
    </Dialog>
  );
}
