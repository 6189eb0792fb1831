/** The spectrogram of a waveform, in the colours of the page. Loaded when it is first opened. */

import type WaveSurfer from "wavesurfer.js";
import SpectrogramPlugin from "wavesurfer.js/plugins/spectrogram";

const HEIGHT = 144;
const STEPS = 256;

type Colour = readonly [number, number, number];

const DARK: readonly Colour[] = [
  [26, 25, 23],
  [92, 42, 24],
  [222, 96, 46],
  [255, 226, 196],
];
const LIGHT: readonly Colour[] = [
  [250, 249, 246],
  [250, 196, 158],
  [214, 78, 20],
  [66, 22, 6],
];

/** Add it below the waveform; returns what takes it away. */
export function addSpectrogram(surfer: WaveSurfer, container: HTMLElement, rate: number, dark: boolean): () => void {
  const plugin = SpectrogramPlugin.create({
    container,
    height: HEIGHT,
    fftSamples: 1024,
    scale: "mel",
    frequencyMax: Math.min(16_000, rate / 2),
    labels: false,
    gainDB: 15,
    rangeDB: 75,
    colorMap: ramp(dark ? DARK : LIGHT),
  });
  surfer.registerPlugin(plugin);
  return () => surfer.unregisterPlugin(plugin);
}

/** Return 256 colours between the given ones. */
function ramp(stops: readonly Colour[]): number[][] {
  return Array.from({ length: STEPS }, (_, step) => {
    const place = (step / (STEPS - 1)) * (stops.length - 1);
    const index = Math.min(Math.floor(place), stops.length - 2);
    const from = stops[index] as Colour;
    const to = stops[index + 1] as Colour;
    return [...from.map((value, channel) => (value + ((to[channel] as number) - value) * (place - index)) / 255), 1];
  });
}
