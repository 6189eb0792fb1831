"""Sounds: additive instruments and synthesised drums, as deterministic functions of time.

A note of an instrument is always the same waveform, with phases that are zero at the onset. It is tuned so that a whole
number of its periods fits into a few of the codec's frames; it decays for `SETTLED` at most, and it ends within its
last frame. With onsets on the codec's frame grid (`music.py`), a held note is then a few frames and one short cycle of
frames, for which a codec needs few codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 32_000
HOP = 1280
"""Samples per codec frame: 25 frames per second."""
CYCLES = (1, 2, 4, 8, 16, 32)
"""Codec frames that hold a whole number of a note's periods."""
MISTUNING = 10.0
"""Cents by which a note's frequency may be moved for a shorter cycle."""
HIGHEST_PARTIAL = 10_000.0
"""In Hz; partials above it are left out."""
CUTOFFS = {"dark": 700.0, "bright": 8000.0}
"""Cutoff in Hz of the low-pass filter on every instrument, for each brightness."""
LONGEST_NOTE = 1.7
"""Seconds; a half bar at the slowest tempo lasts 1.6."""
SETTLED = 8 * HOP / SAMPLE_RATE
"""Seconds after which a note keeps its loudness."""
RELEASE = np.linspace(1.0, 0.0, int(0.006 * SAMPLE_RATE), dtype=np.float32)
"""Fade at the end of a note."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Instrument:
    """A timbre: its partials, and how the note and each partial rise and decay."""

    names: tuple[str, ...]
    """Its names in captions."""
    partials: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Amplitudes for the numbers of the partials; 1 is the fundamental."""
    attack: float
    """Duration in seconds."""
    decay: float
    """Decay of the fundamental per second, until the note has settled; 0: sustained."""
    damping: float = 0.0
    """Additional decay of each further partial."""
    gain: float = 1.0


def _only(**amplitudes: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    known = {int(name.removeprefix("h")): amplitude for name, amplitude in amplitudes.items()}
    return lambda h: np.array([known.get(int(number), 0.0) for number in h])


def _odd(power: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda h: (h % 2) / h**power


INSTRUMENTS = {
    "piano": Instrument(("piano", "grand piano"), lambda h: h**-1.3, 0.004, 3.0, 1.0),
    "music_box": Instrument(("music box", "bells"), _only(h1=1.0, h3=0.3, h6=0.35), 0.002, 5.0, 1.5, gain=1.3),
    "organ": Instrument(("organ", "church organ"), _only(h1=1.0, h2=0.7, h3=0.5, h4=0.4, h6=0.3, h8=0.25), 0.012, 0.0),
    "flute": Instrument(("flute",), _only(h1=1.0, h2=0.2, h3=0.06), 0.04, 0.0),
    "strings": Instrument(("strings", "string section"), lambda h: h**-1.0, 0.08, 0.0, gain=0.8),
    "guitar": Instrument(
        ("guitar", "acoustic guitar"), lambda h: np.abs(np.sin(0.6 * h)) * h**-1.0, 0.003, 4.0, 1.2, gain=1.4
    ),
    "synth": Instrument(("synth lead", "synthesizer"), _odd(1.0), 0.006, 0.0, gain=0.7),
    "bass": Instrument(("bass", "bass guitar"), lambda h: h**-1.5 * (h < 12), 0.006, 2.0, 0.6, gain=1.3),
}
LEADS = ("piano", "music_box", "flute", "guitar", "synth")
CHORDS = ("piano", "organ", "strings")
ARPEGGIOS = ("music_box", "guitar", "synth")


def frequency(pitch: int) -> float:
    """The fundamental of a MIDI number in Hz: that of the shortest cycle within `MISTUNING` of equal temperament."""
    equal = 440.0 * 2.0 ** ((pitch - 69) / 12)
    for cycle in CYCLES:
        unit = SAMPLE_RATE / (HOP * cycle)
        near = unit * round(equal / unit)
        if near and abs(1200 * np.log2(near / equal)) <= MISTUNING:
            break
    return float(near)


def note(instrument: str, brightness: str, pitch: int, frames: int) -> Samples:
    """A note, `[frames * 1280]`, whose fundamental has a peak of about 1. `pitch`: a MIDI number."""
    samples = _held(instrument, brightness, pitch)[: frames * HOP].copy()
    samples[-RELEASE.size :] *= RELEASE
    return samples


@cache
def _held(instrument: str, brightness: str, pitch: int) -> Samples:
    """A note of the longest duration, without its release."""
    sound = INSTRUMENTS[instrument]
    fundamental = frequency(pitch)
    h = np.arange(1, max(2, int(HIGHEST_PARTIAL / fundamental) + 1), dtype=np.float64)
    amplitudes = sound.partials(h) / np.sqrt(1 + (h * fundamental / CUTOFFS[brightness]) ** 4)
    time = np.arange(int(LONGEST_NOTE * SAMPLE_RATE)) / SAMPLE_RATE
    decaying = np.minimum(time, SETTLED)
    samples = np.zeros(time.shape, np.float32)
    for number, amplitude in zip(h, amplitudes, strict=True):
        if amplitude < 1e-3:
            continue
        decay = sound.decay + sound.damping * (number - 1) if sound.decay else 0.0
        phase = (2 * np.pi * number * fundamental * time) % (2 * np.pi)
        samples += (
            np.float32(amplitude) * np.exp(-decay * decaying).astype(np.float32) * np.sin(phase.astype(np.float32))
        )
    samples *= np.minimum(time / sound.attack, 1.0).astype(np.float32)
    # Low notes sound softer at the same amplitude, and the dark filter removes most of their partials.
    return samples * np.float32(sound.gain * (440.0 / fundamental) ** 0.25)


def _noise(seconds: float, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE))


def _highpass(samples: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    for _ in range(steps):
        samples = np.diff(samples, prepend=0.0)
    normalized: NDArray[np.float64] = samples / np.abs(samples).max()
    return normalized


KICKS = {"deep_kick": (42.0, 3.0, 10.0), "kick": (50.0, 4.5, 14.0), "hard_kick": (60.0, 6.0, 18.0)}
"""The pitch in Hz that each kick falls to, by how many periods it is ahead of that pitch, and its decay per second."""
CYMBALS = {"hat": (0.05, 80.0), "ride": (0.1, 40.0), "open_hat": (0.2, 18.0)}
"""The duration in seconds of each cymbal, and its decay per second."""
DRUM_NAMES = (*KICKS, "snare", "clap", *CYMBALS, "tom")


@cache
def drum(name: str) -> Samples:
    """One hit of a drum in `DRUM_NAMES`, with a peak of about 1."""
    samples: NDArray[np.float64]
    if name in KICKS:
        pitch, ahead, decay = KICKS[name]
        time = np.arange(int(0.22 * SAMPLE_RATE)) / SAMPLE_RATE
        samples = np.sin(2 * np.pi * (pitch * time + ahead * (1 - np.exp(-30 * time)))) * np.exp(-decay * time)
    elif name == "tom":
        time = np.arange(int(0.24 * SAMPLE_RATE)) / SAMPLE_RATE
        samples = 0.8 * np.sin(2 * np.pi * (110 * time + 2 * (1 - np.exp(-20 * time)))) * np.exp(-12 * time)
    elif name == "snare":
        noise = _highpass(_noise(0.16, 1), 1)
        time = np.arange(noise.size) / SAMPLE_RATE
        samples = 0.7 * noise * np.exp(-26 * time) + 0.5 * np.sin(2 * np.pi * 185 * time) * np.exp(-22 * time)
    elif name == "clap":
        noise = _highpass(_noise(0.14, 2), 1)
        time = np.arange(noise.size) / SAMPLE_RATE
        samples = 0.8 * noise * np.exp(-30 * time) * (0.6 + 0.4 * np.sign(np.sin(2 * np.pi * 90 * time)))
    else:
        seconds, decay = CYMBALS[name]
        noise = _highpass(_noise(seconds, 3), 2)
        time = np.arange(noise.size) / SAMPLE_RATE
        samples = 0.5 * noise * np.exp(-decay * time)
    fade = min(160, samples.size)
    samples[-fade:] *= np.linspace(1.0, 0.0, fade)
    return samples.astype(np.float32)
