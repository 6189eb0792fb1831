import { useEffect, useState } from "preact/hooks";

import { BASE_URL, messageOf, type PredictionRequest } from "./api.ts";
import { clipUrl } from "./clip.ts";
import { CopyButton } from "./copy_button.tsx";
import { Dialog } from "./dialog.tsx";
import { chosenModel, requestsOf } from "./form.ts";
import { token } from "./session.ts";
import { type Snippet, snippetsOf } from "./snippets.ts";

interface Props {
  /** The request; the form's, where it is left out. */
  request?: PredictionRequest;
  model?: string;
  onClose(): void;
}

/** The request in four languages, to copy. */
export function SnippetsDialog({ request, model, onClose }: Props) {
  const [body, setBody] = useState<PredictionRequest | undefined>(request);
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    if (body) return;
    // A chosen file must be uploaded: the call needs its URL.
    clipUrl().then(
      (audio) => setBody(requestsOf(audio, 1)[0]),
      (error: unknown) => setTrouble(messageOf(error)),
    );
  }, []);
  return (
    <Dialog title="Copy the call" wide onClose={onClose}>
      {trouble && (
        <p class="field-error" role="alert">
          {trouble}
        </p>
      )}
      {body ? <SnippetTabs snippets={snippets(body, model)} /> : <div class="code loading" />}
    </Dialog>
  );
}

function snippets({ version, input }: PredictionRequest, model?: string): Snippet[] {
  const body = { ...(version && { version }), input: { ...input } };
  const name = model ?? chosenModel.value?.name ?? "local/musicgen-pocket";
  return snippetsOf({ baseUrl: BASE_URL, needsToken: token.value !== null, model: name, body });
}

function SnippetTabs({ snippets }: { snippets: readonly Snippet[] }) {
  const [id, setId] = useState(snippets[0]?.id);
  const shown = snippets.find((snippet) => snippet.id === id);
  const onKeyDown = (event: KeyboardEvent): void => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = snippets.findIndex((snippet) => snippet.id === id);
    const next = snippets[(at + step + snippets.length) % snippets.length];
    setId(next?.id);
    document.getElementById(`tab-${next?.id}`)?.focus();
  };
  if (!shown) return null;
  return (
    <>
      <div class="tabs" role="tablist" aria-label="Language" onKeyDown={onKeyDown}>
        {snippets.map((snippet) => (
          <button
            key={snippet.id}
            type="button"
            role="tab"
            id={`tab-${snippet.id}`}
            class="tab"
            aria-selected={snippet.id === id}
            aria-controls="snippet"
            tabIndex={snippet.id === id ? 0 : -1}
            onClick={() => setId(snippet.id)}
          >
            {snippet.label}
          </button>
        ))}
      </div>
      <div id="snippet" role="tabpanel" aria-labelledby={`tab-${shown.id}`}>
        <pre class="code" tabIndex={0}>
          <code>{shown.code}</code>
        </pre>
        <div class="button-row spread">
          <p class="field-hint">{shown.needs ?? "Runs as it stands."}</p>
          <CopyButton text={shown.code} />
        </div>
      </div>
    </>
  );
}
