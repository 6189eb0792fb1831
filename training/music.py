"""Songs: their style (`Style`), their notes (`compose`) and their sound (`render`).

A song is a loop of two bars in 4/4, with a chord for each half bar. Every onset lies on the codec's frame grid: a
sixteenth lasts a whole number of frames, which allows only some tempi.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from training.instruments import ARPEGGIOS, CHORDS, HOP, LEADS, SAMPLE_RATE, Samples, drum, note

Mode = Literal["major", "minor"]
Brightness = Literal["dark", "bright"]
Density = Literal["sparse", "medium", "dense"]
Pace = Literal["slow", "moderate", "fast"]

DENSITIES: tuple[Density, ...] = ("sparse", "medium", "dense")
FRAMES_PER_STEP: dict[Pace, int] = {"slow": 10, "moderate": 7, "fast": 5}
"""Codec frames per sixteenth: 75, 107 and 150 beats per minute."""
KEYS = {"C": 0, "D": 2, "F": 5, "G": 7, "A": 9}
"""Pitch classes of the tonics."""
SCALES: dict[Mode, tuple[int, ...]] = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PROGRESSIONS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4), (0, 4, 3, 0))
"""Roots of four half bars as steps of the scale; 0 is the tonic. The triads on the first, fourth and fifth step are
major in major keys and minor in minor keys, so that the mode is audible in any key."""
STEPS_PER_BAR = 16
BARS = 2
STEPS_PER_CHORD = 8
REGISTERS: dict[Brightness, int] = {"dark": -9, "bright": 5}
"""Semitones by which melody and chords are transposed."""
GAIN = 0.38
"""Gain of the mix, which keeps its peaks below 1."""
DRUM_GAINS = {"kick": 0.9, "snare": 0.6, "clap": 0.6, "hat": 0.35, "open_hat": 0.35, "tom": 0.6}


@dataclass(frozen=True)
class Style:
    """The attributes of a song, which captions describe and `compose` follows."""

    mode: Mode
    key: str
    """One of `KEYS`."""
    pace: Pace
    drums: bool
    brightness: Brightness
    density: Density
    lead: str | None
    chords: str
    arpeggio: str | None
    bass: bool

    @property
    def frames_per_step(self) -> int:
        """Codec frames per sixteenth."""
        return FRAMES_PER_STEP[self.pace]

    @property
    def beats_per_minute(self) -> float:
        """The tempo."""
        return 60 * SAMPLE_RATE / (4 * self.frames_per_step * HOP)

    @property
    def loop_frames(self) -> int:
        """Codec frames after which the song repeats."""
        return BARS * STEPS_PER_BAR * self.frames_per_step


class Event(NamedTuple):
    """A note or a drum's hit."""

    part: str
    """chords, bass, arpeggio, lead or drums."""
    sound: str
    """The instrument's or the drum's name."""
    pitch: int
    """MIDI number; 0 for a drum."""
    step: int
    """Onset in sixteenths from the start of the loop."""
    steps: int
    """Duration in sixteenths."""
    gain: float


def random_style(random: np.random.Generator) -> Style:
    """Draw a style, each attribute independently, so that the model cannot infer one from another."""
    density = DENSITIES[random.integers(len(DENSITIES))]
    has_arpeggio = random.random() < {"sparse": 0.0, "medium": 0.25, "dense": 0.5}[density]
    has_lead = not has_arpeggio and random.random() < 0.75
    return Style(
        mode="major" if random.random() < 0.5 else "minor",
        key=str(random.choice(list(KEYS))),
        pace=random.choice(list(FRAMES_PER_STEP)),
        drums=bool(random.random() < 0.5),
        brightness=random.choice(["dark", "bright"]),
        density=density,
        lead=str(random.choice(LEADS)) if has_lead else None,
        chords=str(random.choice(CHORDS)),
        arpeggio=str(random.choice(ARPEGGIOS)) if has_arpeggio else None,
        bass=bool(random.random() < 0.4),
    )


def compose(style: Style, random: np.random.Generator) -> list[Event]:
    """The events of a song's loop, ordered by part."""
    roots = PROGRESSIONS[random.integers(len(PROGRESSIONS))]
    events: list[Event] = []
    events += _chords(style, roots)
    if style.bass:
        events += _bass(style, roots)
    if style.arpeggio:
        events += _arpeggio(style, style.arpeggio, roots, random)
    if style.lead:
        events += _lead(style, style.lead, roots, random)
    if style.drums:
        events += _drums(style, random)
    return events


def render(
    style: Style, events: list[Event], frames: int, *, start: int = 0, parts: frozenset[str] | None = None
) -> Samples:
    """Mono samples `[frames * 640]` of a song, from frame `start` of its loop.

    `parts`: only these of chords, bass, arpeggio, lead and drums; None: all.
    """
    mix = np.zeros(frames * HOP, np.float32)
    for event in events:
        if parts is not None and event.part not in parts:
            continue
        if event.pitch:
            sound = note(event.sound, style.brightness, event.pitch, event.steps * style.frames_per_step)
        else:
            sound = drum(event.sound)
        first = event.step * style.frames_per_step - start
        # From the repeat before the window, which may still sound in it, to the last that begins in it.
        first -= style.loop_frames * (1 + first // style.loop_frames)
        for onset in range(first * HOP, mix.size, style.loop_frames * HOP):
            begin, end = max(onset, 0), min(onset + sound.size, mix.size)
            if begin < end:
                mix[begin:end] += event.gain * sound[begin - onset : end - onset]
    return GAIN * mix


def _pitch(style: Style, step: int, around: int) -> int:
    """The MIDI number of a step of the scale (any integer), in the octave whose tonic is nearest to `around`."""
    scale = SCALES[style.mode]
    tonic = around + (KEYS[style.key] - around + 6) % 12 - 6
    return tonic + 12 * (step // 7) + scale[step % 7]


def _chords(style: Style, roots: tuple[int, ...]) -> list[Event]:
    around = 57 + REGISTERS[style.brightness]
    lengths = {"sparse": (8,), "medium": (4, 4), "dense": (2, 2, 2, 2)}[style.density]
    events = []
    for half, root in enumerate(roots):
        step = half * STEPS_PER_CHORD
        for length in lengths:
            for degree in (0, 2, 4):
                pitch = _pitch(style, root + degree, around)
                if pitch > around + 9:
                    pitch -= 12  # inversions keep the chords close together
                events.append(Event("chords", style.chords, pitch, step, length, 0.13))
            step += length
    return events


def _bass(style: Style, roots: tuple[int, ...]) -> list[Event]:
    lengths = {"sparse": (8,), "medium": (4, 4), "dense": (4, 4)}[style.density]
    events = []
    for half, root in enumerate(roots):
        step = half * STEPS_PER_CHORD
        pitch = _pitch(style, root, 40)
        while pitch > 48:
            pitch -= 12
        for length in lengths:
            events.append(Event("bass", "bass", pitch, step, length, 0.28))
            step += length
    return events


def _arpeggio(style: Style, sound: str, roots: tuple[int, ...], random: np.random.Generator) -> list[Event]:
    around = 67 + REGISTERS[style.brightness]
    length = 1 if style.density == "dense" and style.pace != "fast" else 2
    shapes = ((0, 2, 4, 7), (0, 4, 2, 7), (7, 4, 2, 0), (0, 2, 4, 2))
    shape = shapes[random.integers(len(shapes))]
    return [
        Event(
            "arpeggio",
            sound,
            _pitch(style, root + shape[i % 4], around),
            half * STEPS_PER_CHORD + i * length,
            length,
            0.16,
        )
        for half, root in enumerate(roots)
        for i in range(STEPS_PER_CHORD // length)
    ]


RHYTHMS: dict[Density, tuple[tuple[int, ...], ...]] = {
    "sparse": ((8,),),
    "medium": ((4, 4), (6, 2)),
    "dense": ((2, 2, 2, 2), (2, 2, 4), (4, 2, 2)),
}


def _lead(style: Style, sound: str, roots: tuple[int, ...], random: np.random.Generator) -> list[Event]:
    around = 72 + REGISTERS[style.brightness]
    rhythms = [RHYTHMS[style.density][random.integers(len(RHYTHMS[style.density]))] for _ in range(2)]
    events = []
    position = int(random.choice([0, 2, 4]))
    for half, root in enumerate(roots):
        step = half * STEPS_PER_CHORD
        for length in rhythms[half % 2]:
            if step % STEPS_PER_CHORD == 0:  # strong beats take the chord's nearest note
                chord = [root + degree + 7 * octave for octave in (-1, 0, 1) for degree in (0, 2, 4)]
                position = min(chord, key=lambda tone: abs(tone - position) + 0.1 * abs(tone - 2))
            events.append(Event("lead", sound, _pitch(style, position, around), step, length, 0.26))
            position = int(np.clip(position + random.choice([-2, -1, -1, 1, 1, 2]), -3, 8))
            step += length
    return events


def _drums(style: Style, random: np.random.Generator) -> list[Event]:
    kicks = {"sparse": ((0,), (0, 8)), "medium": ((0, 8), (0, 8, 10)), "dense": ((0, 4, 8, 12), (0, 6, 8, 14))}
    kick = kicks[style.density][random.integers(2)]
    back = "snare" if random.random() < 0.6 else "clap"
    hats = {"sparse": 8, "medium": 4, "dense": 2}[style.density]
    offbeat = style.density != "sparse" and random.random() < 0.4
    events = []
    for bar in range(BARS):
        first = bar * STEPS_PER_BAR
        events += [("kick", first + step) for step in kick]
        events += [(back, first + step) for step in ((8,) if style.density == "sparse" else (4, 12))]
        events += [("hat", first + step) for step in range(0, STEPS_PER_BAR, hats)]
        if offbeat:
            events += [("open_hat", first + step) for step in (6, 14)]
    events += [("tom", BARS * STEPS_PER_BAR - 4), ("tom", BARS * STEPS_PER_BAR - 2)]
    return [Event("drums", name, 0, step, 1, DRUM_GAINS[name]) for name, step in events]
