/** A recording in progress. The recorder is loaded when it is first needed. */

import WaveSurfer from "wavesurfer.js";

import { BAR, cspNonce, waveColours } from "./wave_style.ts";

export interface Recording {
  /** Stop, and return what was recorded. */
  finish(): Promise<File>;
  discard(): void;
}

const HEIGHT = 72;

export async function startRecording(container: HTMLElement, onTime: (seconds: number) => void): Promise<Recording> {
  const { default: RecordPlugin } = await import("wavesurfer.js/plugins/record");
  const shown = waveColours();
  const record = RecordPlugin.create({ scrollingWaveform: true, renderRecordedAudio: false });
  const look = { ...BAR, height: HEIGHT, waveColor: shown.played, cursorWidth: 0, interact: false, cspNonce };
  const surfer = WaveSurfer.create({ container, ...look, plugins: [record] });
  record.on("record-progress", (milliseconds) => onTime(milliseconds / 1000));
  try {
    // Asked here because the recorder hides why the browser refuses.
    (await navigator.mediaDevices.getUserMedia({ audio: true })).getTracks().forEach((track) => track.stop());
    await record.startRecording();
  } catch (error) {
    surfer.destroy();
    throw error;
  }
  const finish = (): Promise<File> =>
    new Promise((resolve) => {
      record.once("record-end", (blob) => {
        resolve(fileOf(blob));
        surfer.destroy();
      });
      record.stopRecording();
    });
  return { finish, discard: () => surfer.destroy() };
}

function fileOf(blob: Blob): File {
  const extension = blob.type.includes("mp4") ? "m4a" : blob.type.includes("ogg") ? "ogg" : "webm";
  return new File([blob], `recording.${extension}`, { type: blob.type });
}
