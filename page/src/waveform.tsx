import { useEffect, useRef, useState } from "preact/hooks";
import WaveSurfer from "wavesurfer.js";
import Regions, { type Region } from "wavesurfer.js/plugins/regions";

import { clock } from "./format.ts";
import type { Take } from "./takes.ts";
import { colours } from "./theme_switch.tsx";
import { current, loop, moved, playing, position, setLoop, TakeMedia } from "./transport.ts";
import { BAR, cspNonce, waveColours } from "./wave_style.ts";

type RegionsPlugin = ReturnType<typeof Regions.create>;

const HEIGHT = 88;

interface Props {
  take: Take;
  buffer: AudioBuffer;
  /** The id of the element that names the take. */
  title: string;
}

/** A finished take's waveform: click to seek, drag the loop's edges. */
export function Waveform({ take, buffer, title }: Props) {
  const container = useRef<HTMLDivElement>(null);
  const [surfer, setSurfer] = useState<WaveSurfer>();
  const regions = useRef<RegionsPlugin | undefined>(undefined);

  useEffect(() => {
    if (!container.current) return undefined;
    const media = new TakeMedia(take.id, buffer.duration);
    const plugin = Regions.create();
    const made = createWave(container.current, media, buffer, plugin);
    regions.current = plugin;
    plugin.on("region-updated", (region) => setLoop({ start: region.start, end: region.end }));
    made.once("ready", () => {
      setSurfer(made);
      media.catchUp();
    });
    return () => {
      setSurfer(undefined);
      made.destroy();
      media.close();
    };
  }, [buffer]);

  const dark = colours.value;
  useEffect(() => {
    const shown = waveColours();
    surfer?.setOptions({ waveColor: shown.wave, progressColor: shown.played, cursorColor: shown.cursor });
  }, [dark]);
  useLoopRegion(surfer, regions.current, buffer.duration);

  return (
    <div class="waveform">
      <div class="wave-canvas" ref={container} />
      <PositionSlider take={take} seconds={buffer.duration} title={title} />
      {take.spectrogram.value && surfer && <Spectrogram surfer={surfer} rate={buffer.sampleRate} />}
    </div>
  );
}

function createWave(container: HTMLElement, media: TakeMedia, buffer: AudioBuffer, regions: RegionsPlugin): WaveSurfer {
  const shown = waveColours();
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, channel) => buffer.getChannelData(channel));
  return WaveSurfer.create({
    container,
    height: HEIGHT,
    ...BAR,
    waveColor: shown.wave,
    progressColor: shown.played,
    cursorColor: shown.cursor,
    cursorWidth: 2,
    dragToSeek: { debounceTime: 0 },
    barHeight: 0.9,
    cspNonce,
    // The transport plays; the waveform only sees a media element.
    media: media as unknown as HTMLMediaElement,
    peaks: channels,
    duration: buffer.duration,
    plugins: [regions],
  });
}

/** The loop, on every take: they share one. */
function useLoopRegion(surfer: WaveSurfer | undefined, plugin: RegionsPlugin | undefined, seconds: number): void {
  const range = loop.value;
  const region = useRef<Region | undefined>(undefined);
  const dark = colours.value;
  useEffect(() => {
    if (!surfer || !plugin) return;
    if (!range || range.start >= seconds) {
      region.current?.remove();
      region.current = undefined;
    } else if (region.current) {
      region.current.setOptions({ start: range.start, end: Math.min(range.end, seconds) });
    } else {
      const end = Math.min(range.end, seconds);
      region.current = plugin.addRegion({ start: range.start, end, color: waveColours().region, minLength: 0.2 });
    }
  }, [surfer, plugin, range, seconds, dark]);
}

/** What keyboards and screen readers seek with; it lies below the waveform and is seen when it has the focus. */
function PositionSlider({ take, seconds, title }: { take: Take; seconds: number; title: string }) {
  const input = useRef<HTMLInputElement>(null);
  const jumped = moved.value;
  const runs = playing.value;
  useEffect(() => {
    const update = (): void => {
      const element = input.current;
      if (!element || document.activeElement !== element) return;
      element.value = String(position());
      element.setAttribute("aria-valuetext", `${clock(position())} of ${clock(seconds)}`);
    };
    if (input.current) input.current.value = String(position());
    input.current?.setAttribute("aria-valuetext", `${clock(position())} of ${clock(seconds)}`);
    const timer = runs ? setInterval(update, 1000) : undefined;
    return () => clearInterval(timer);
  }, [jumped, runs, seconds]);
  const move = (value: number): void => {
    const media = new TakeMedia(take.id, seconds);
    media.currentTime = value;
    media.close();
  };
  return (
    <input
      ref={input}
      class="position"
      type="range"
      aria-label="Position"
      aria-describedby={title}
      data-current={current.value === take.id ? "" : undefined}
      min={0}
      max={seconds}
      step={0.1}
      onInput={(event) => move(Number(event.currentTarget.value))}
    />
  );
}

function Spectrogram({ surfer, rate }: { surfer: WaveSurfer; rate: number }) {
  const container = useRef<HTMLDivElement>(null);
  const [ready, setReady] = useState(false);
  const dark = colours.value;
  useEffect(() => {
    let close: (() => void) | undefined;
    let gone = false;
    const open = async (): Promise<void> => {
      const { addSpectrogram } = await import("./spectrogram.ts");
      if (gone || !container.current) return;
      close = addSpectrogram(surfer, container.current, rate, dark);
      setReady(true);
    };
    void open();
    return () => {
      gone = true;
      close?.();
    };
  }, [surfer, dark]);
  return (
    <div class="spectrogram" role="img" aria-label="Spectrogram: low to high frequencies over time" aria-busy={!ready} ref={container} />
  );
}
