import { useEffect, useId, useRef, useState } from "preact/hooks";

import { Icon } from "./icons.tsx";
import type { components } from "./schema.gen.ts";
import { pause as pauseTakes } from "./transport.ts";

type Side = "before" | "after";

interface Props {
  sample: components["schemas"]["Sample"];
  /** One of the URLs cannot be played. */
  onBroken(): void;
}

/** What plays now; one sound at a time is heard on the page. */
let sounding: HTMLAudioElement | null = null;

/** A caption, played without and with the fine-tune; who changes sides goes on at the same place in the music. */
export function Sample({ sample, onBroken }: Props) {
  const [heard, setHeard] = useState<Side | null>(null);
  const [broken, setBroken] = useState(false);
  const before = useRef<HTMLAudioElement>(null);
  const after = useRef<HTMLAudioElement>(null);
  const title = useId();
  useEffect(() => () => sounding?.pause(), []);
  const toggle = (side: Side): void => {
    const [chosen, other] = side === "before" ? [before.current, after.current] : [after.current, before.current];
    if (!chosen || !other) return;
    if (!chosen.paused) return chosen.pause();
    if (!other.paused) chosen.currentTime = other.currentTime;
    sounding?.pause();
    pauseTakes();
    sounding = chosen;
    setBroken(false);
    // What keeps it from playing comes as an error event too.
    chosen.play().catch(() => undefined);
  };
  const playerOf = (side: Side) => ({
    src: sample[side],
    preload: "none" as const,
    onPlay: () => setHeard(side),
    onPause: () => setHeard((now) => (now === side ? null : now)),
    onError: () => {
      setBroken(true);
      onBroken();
    },
  });
  return (
    <li class="sample">
      <p id={title}>{sample.caption}</p>
      <div class="sample-sides">
        {(["before", "after"] as const).map((side) => (
          <button
            key={side}
            type="button"
            class="quiet-button"
            aria-describedby={title}
            aria-pressed={heard === side}
            onClick={() => toggle(side)}
          >
            <Icon name={heard === side ? "pause" : "play"} size={18} /> <span>{side === "before" ? "Before" : "After"}</span>
          </button>
        ))}
      </div>
      <audio ref={before} {...playerOf("before")} />
      <audio ref={after} {...playerOf("after")} />
      {broken && (
        <p class="field-error" role="alert">
          It could not be played. Try it again.
        </p>
      )}
    </li>
  );
}
