import { useEffect, useState } from "preact/hooks";

import { BASE_URL, messageOf, type PredictionRequest } from "./api.ts";
import { clipUrl } from "./clip.ts";
import { CopyButton } from "./copy_button.tsx";
import { Dialog } from "./dialog.tsx";
import { chosenModel, requestsOf } from "./form.ts";
import { token } from "./session.ts";
import { type Snippet, snippetsOf } from "./snippets.ts";
import { Tabs } from "./tabs.tsx";

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
  if (!shown) return null;
  return (
    <Tabs label="Language" tabs={snippets} chosen={shown.id} onChoose={setId}>
      <pre class="code" tabIndex={0}>
        <code>{shown.code}</code>
      </pre>
      <div class="button-row spread">
        <p class="field-hint">{shown.needs ?? "Runs as it stands."}</p>
        <CopyButton text={shown.code} />
      </div>
    </Tabs>
  );
}
