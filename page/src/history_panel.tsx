import type { Prediction } from "./api.ts";
import { adopt } from "./form.ts";
import { ago, secondsOf } from "./format.ts";
import { earlier, found, hasMore, historyError, historyKnown, loading, loadMore, promptOf, search, searchFor } from "./history.ts";
import { Icon } from "./icons.tsx";
import { show, takes } from "./takes.ts";

/** Earlier predictions; one that is opened brings its settings back too. */
export function HistoryPanel() {
  return (
    <aside class="history" aria-labelledby="history-title">
      <header class="history-head">
        <h2 id="history-title">History</h2>
        <label class="search">
          <Icon name="search" size={18} />
          <input
            type="search"
            aria-label="Find in history"
            placeholder="Find"
            value={search.value}
            onInput={(event) => void searchFor(event.currentTarget.value)}
          />
        </label>
      </header>
      {historyError.value && (
        <p class="form-error" role="alert">
          <Icon name="alert" /> {historyError.value}
        </p>
      )}
      <HistoryList />
      {hasMore.value && (
        <button type="button" class="button full" disabled={loading.value} onClick={() => void loadMore()}>
          {loading.value ? "Loading…" : search.value ? "Search older ones" : "Show older ones"}
        </button>
      )}
    </aside>
  );
}

function HistoryList() {
  if (!historyKnown.value && !historyError.value) return <Skeleton />;
  if (!earlier.value.length) return <p class="history-note">What you generate is listed here.</p>;
  if (!found.value.length) {
    return (
      <p class="history-note" role="status">
        {loading.value ? "Searching…" : `Nothing found for “${search.value}”.`}
      </p>
    );
  }
  return (
    <ul class="history-list" aria-label="Earlier">
      {found.value.map((prediction) => (
        <HistoryItem key={prediction.id} prediction={prediction} />
      ))}
    </ul>
  );
}

const STATES: Record<Prediction["status"], string> = {
  starting: "waiting",
  processing: "being made",
  succeeded: "",
  failed: "failed",
  canceled: "cancelled",
};

function HistoryItem({ prediction: listed }: { prediction: Prediction }) {
  const take = takes.value.find((one) => one.id === listed.id);
  // What is on the bench is followed there: that is newer than the list.
  const prediction = take?.prediction.value ?? listed;
  const seconds = prediction.metrics.duration ?? prediction.input.duration;
  const reopen = (): void => {
    show([prediction]);
    adopt(prediction, { seed: true, audio: true });
    document.getElementById("takes-title")?.scrollIntoView({ block: "start" });
  };
  const state = STATES[prediction.status];
  return (
    <li>
      <button type="button" class={`history-item is-${prediction.status}`} aria-pressed={take !== undefined} onClick={reopen}>
        <span class="history-prompt">{promptOf(prediction) || "Without a description"}</span>
        <span class="history-facts number">
          {typeof seconds === "number" && <span>{secondsOf(seconds)}</span>}
          <span>{ago(prediction.created_at)}</span>
          {state && <span class="history-state">{state}</span>}
        </span>
      </button>
    </li>
  );
}

function Skeleton() {
  return (
    <div class="skeletons" aria-hidden="true">
      {[0, 1, 2, 3, 4].map((one) => (
        <div key={one} class="skeleton" />
      ))}
    </div>
  );
}
