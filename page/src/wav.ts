/** A reader of WAV files of 32-bit floats and 16-bit integers: the form of the live chunks. */

export interface Wav {
  readonly rate: number;
  readonly channels: Float32Array<ArrayBuffer>[];
}

const FLOAT = 3;
const EXTENSIBLE = 0xfffe;

/** Return the samples of each channel. Raises RangeError where the file is cut off, Error where it is something else. */
export function parseWav(file: ArrayBuffer): Wav {
  const view = new DataView(file);
  let format = 0;
  let count = 1;
  let rate = 0;
  let bits = 0;
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const name = view.getUint32(at);
    const size = Math.min(view.getUint32(at + 4, true), view.byteLength - at - 8);
    if (name === 0x666d7420) {
      format = view.getUint16(at + 8, true);
      count = view.getUint16(at + 10, true);
      rate = view.getUint32(at + 12, true);
      bits = view.getUint16(at + 22, true);
      if (format === EXTENSIBLE) format = view.getUint16(at + 32, true);
    } else if (name === 0x64617461) {
      return { rate, channels: samplesOf(view, at + 8, size, count, format === FLOAT ? 32 : bits) };
    }
    at += 8 + size + (size % 2);
  }
  throw new Error("This is no WAV file with sound in it.");
}

function samplesOf(view: DataView, start: number, size: number, count: number, bits: number): Float32Array<ArrayBuffer>[] {
  const width = bits / 8;
  const frames = Math.floor(size / width / count);
  return Array.from({ length: count }, (_, channel) => {
    const samples = new Float32Array(frames);
    for (let frame = 0; frame < frames; frame += 1) {
      const at = start + (frame * count + channel) * width;
      samples[frame] = bits === 32 ? view.getFloat32(at, true) : view.getInt16(at, true) / 32768;
    }
    return samples;
  });
}
