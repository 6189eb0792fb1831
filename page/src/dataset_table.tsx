import { useEffect, useRef } from "preact/hooks";

import type { Training } from "./api.ts";
import { hasEnded } from "./follow.ts";
import { clock } from "./format.ts";
import { Icon } from "./icons.tsx";
import type { components } from "./schema.gen.ts";
import { cancelTraining } from "./trainings.ts";

type Inspected = components["schemas"]["Inspected"];
type Row = components["schemas"]["Row"];

/** What a training would use of a dataset, and what not. */
export function DatasetTable({ inspection }: { inspection: Training }) {
  const { id, status, output, error } = inspection;
  if (status === "failed") {
    return (
      <p class="form-error" role="alert">
        <Icon name="alert" /> {error}
      </p>
    );
  }
  if (!hasEnded(status)) {
    return (
      <div class="button-row spread">
        <p role="status">{status === "starting" ? "Waiting for the worker…" : "Looking at the music…"}</p>
        <button type="button" class="quiet-button" onClick={() => void cancelTraining(id)}>
          Cancel
        </button>
      </div>
    );
  }
  return output && "table" in output ? <Table inspected={output} /> : null;
}

function Table({ inspected }: { inspected: Inspected }) {
  const { pieces, seconds, dropped, table } = inspected;
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.scrollIntoView({ block: "nearest" }), []);
  return (
    <div class="dataset" ref={box}>
      <p role="status" class="number">
        {count(pieces, "piece")}, {clock(seconds)}
        {dropped > 0 && `; ${dropped} dropped`}
        {table.length < pieces + dropped && `; the first ${table.length} are shown`}
      </p>
      <div class="dataset-rows" role="region" aria-label="What is in the music" tabIndex={0}>
        <table>
          <thead>
            <tr>
              <th scope="col">Piece</th>
              <th scope="col">Caption</th>
            </tr>
          </thead>
          <tbody>
            {table.map((row) => (
              <Piece key={`${row.name} ${row.start}`} row={row} />
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

function Piece({ row }: { row: Row }) {
  const { name, start, seconds, caption, clipped, dropped_reason: dropped } = row;
  return (
    <tr class={dropped ? "dropped" : undefined}>
      <td>
        {name}
        {seconds > 0 && <span class="dataset-place number">{`${clock(start)} – ${clock(start + seconds)}`}</span>}
      </td>
      <td>
        {dropped ? `Dropped: ${dropped}` : caption}
        {clipped && !dropped && <span class="tag">clipped</span>}
      </td>
    </tr>
  );
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
