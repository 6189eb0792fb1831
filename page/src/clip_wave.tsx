import { useEffect, useRef, useState } from "preact/hooks";
import WaveSurfer from "wavesurfer.js";
import Regions, { type Region } from "wavesurfer.js/plugins/regions";

import { setValue, valueOf, values } from "./form.ts";
import { Icon } from "./icons.tsx";
import { colours } from "./theme_switch.tsx";
import { BAR, cspNonce, waveColours } from "./wave_style.ts";

const HEIGHT = 72;

/** The clip's waveform; the region on it is the part that is used. */
export function ClipWave({ file }: { file: File }) {
  const container = useRef<HTMLDivElement>(null);
  const wave = useRef<WaveSurfer | undefined>(undefined);
  const region = useRef<Region | undefined>(undefined);
  const [playing, setPlaying] = useState(false);
  const [unreadable, setUnreadable] = useState(false);

  useEffect(() => {
    if (!container.current) return undefined;
    const shown = waveColours();
    const regions = Regions.create();
    const surfer = WaveSurfer.create({
      container: container.current,
      height: HEIGHT,
      ...BAR,
      waveColor: shown.wave,
      progressColor: shown.played,
      cursorColor: shown.cursor,
      normalize: true,
      barHeight: 0.9,
      cspNonce,
      plugins: [regions],
    });
    wave.current = surfer;
    surfer.on("ready", (seconds) => {
      region.current = regions.addRegion({ ...rangeOf(seconds), color: shown.region, minLength: 1 });
    });
    regions.on("region-updated", (one) => store(one, surfer.getDuration()));
    surfer.on("play", () => setPlaying(true));
    surfer.on("pause", () => setPlaying(false));
    surfer.on("finish", () => setPlaying(false));
    surfer.on("error", () => setUnreadable(true));
    surfer.loadBlob(file).catch(() => undefined); // "error" tells it, where the clip was not changed meanwhile.
    return () => surfer.destroy();
  }, [file]);

  useEffect(() => {
    const shown = waveColours();
    wave.current?.setOptions({ waveColor: shown.wave, progressColor: shown.played, cursorColor: shown.cursor });
    region.current?.setOptions({ color: shown.region } as Parameters<Region["setOptions"]>[0]);
  }, [colours.value]);

  const start = values.value.continuation_start;
  const end = values.value.continuation_end;
  useEffect(() => {
    const seconds = wave.current?.getDuration() ?? 0;
    if (region.current && seconds) region.current.setOptions(rangeOf(seconds));
  }, [start, end]);

  const toggle = (): void => {
    if (!wave.current || !region.current) return;
    if (playing) wave.current.pause();
    else void wave.current.play(region.current.start, region.current.end);
  };
  if (unreadable) return <p class="field-hint">The browser cannot read this file; the service may be able to.</p>;
  return (
    <div class="clip-wave">
      <button type="button" class="icon-button" aria-label={playing ? "Stop the preview" : "Preview"} onClick={toggle}>
        <Icon name={playing ? "pause" : "play"} />
      </button>
      <div class="clip-canvas" ref={container} />
    </div>
  );
}

function rangeOf(seconds: number): { start: number; end: number } {
  const start = Math.min(Number(valueOf("continuation_start")) || 0, seconds);
  const entered = Number(valueOf("continuation_end"));
  const end = valueOf("continuation_end") === "" || entered < 0 ? seconds : Math.min(entered, seconds);
  return { start, end: Math.max(end, start) };
}

/** Whole seconds, as the API takes them; a region that reaches the clip's end has no end. */
function store(region: Region, seconds: number): void {
  const start = Math.min(Math.round(region.start), Math.max(0, Math.ceil(seconds) - 1));
  const toEnd = region.end >= seconds - 0.25;
  setValue("continuation_start", String(start));
  setValue("continuation_end", toEnd ? "" : String(Math.max(start + 1, Math.round(region.end))));
  region.setOptions(rangeOf(seconds));
}
