import { useEffect, useRef } from "preact/hooks";

import { clock } from "./format.ts";
import type { Take } from "./takes.ts";
import { moved, playing, position } from "./transport.ts";

/** The position and the length. Written into the page directly while playing: nothing is rendered per frame. */
export function TakeTime({ take }: { take: Take }) {
  const place = useRef<HTMLSpanElement>(null);
  const seconds = take.buffer.value?.duration ?? 0;
  const runs = playing.value;
  const jumped = moved.value;
  useEffect(() => {
    let frame = 0;
    let shown = "";
    const draw = (): void => {
      const text = clock(Math.min(position(), seconds));
      if (text !== shown && place.current) place.current.textContent = shown = text;
      if (runs) frame = requestAnimationFrame(draw);
    };
    draw();
    return () => cancelAnimationFrame(frame);
  }, [runs, jumped, seconds]);
  return (
    <p class="take-time number">
      <span ref={place}>{clock(0)}</span> <span class="faint">/ {clock(seconds)}</span>
    </p>
  );
}
