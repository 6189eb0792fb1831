"""Songs: their style (`Style`), their notes (`compose`) and their sound (`render`).

A song is a loop of two bars in 4/4, with a chord for each half bar. Every onset lies on the codec's frame grid: a
sixteenth lasts a whole number of frames, which allows only some tempi. Drums tell the tempo and the density with their
first hits: each tempo has its own kick, and medium and dense songs have different cymbals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from training.instruments import (
    ARPEGGIOS,
    CHORDS,
    CYMBALS,
    HOP,
    INSTRUMENTS,
    KICKS,
    LEADS,
    SAMPLE_RATE,
    Samples,
    drum,
    note,
)

Mode = Literal["major", "minor"]
Brightness = Literal["dark", "bright"]
Density = Literal["sparse", "medium", "dense"]
Pace = Literal["slow", "moderate", "fast"]

DENSITIES: tuple[Density, ...] = ("sparse", "medium", "dense")
FRAMES_PER_STEP: dict[Pace, int] = {"slow": 5, "moderate": 4, "fast": 3}
"""Codec frames per sixteenth: 75, 94 and 125 beats per minute."""
KEYS = {"C": 0, "D": 2, "F": 5, "G": 7, "A": 9}
"""Pitch classes of the tonics."""
SCALES: dict[Mode, tuple[int, ...]] = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PROGRESSIONS = ((0, 3, 4, 0), (0, 4, 3, 4), (0, 3, 0, 4), (0, 0, 3, 4))
"""Roots of four half bars as steps of the scale; 0 is the tonic. The triads on the first, fourth and fifth step are
major in major keys and minor in minor keys, so that the mode is audible in any key."""
STEPS_PER_BAR = 16
BARS = 2
STEPS_PER_CHORD = 8
LOWEST_CHORD: dict[Brightness, int] = {"dark": 48, "bright": 60}
"""The lowest pitch of the octave in which all chords lie."""
LOWEST_LEAD: dict[Brightness, int] = {"dark": 60, "bright": 72}
"""The lowest pitch of the octave in which leads and arpeggios lie."""
LOWEST_BASS = 36
SOLO = 0.15
"""Share of the songs in which one instrument plays alone."""
GAIN = 0.38
"""Gain of the mix, which keeps its peaks below 1."""
LEAD_GAIN = 0.22
"""Gain of leads and of arpeggios, whose notes thus need the same codes."""
KICK: dict[Pace, str] = {"slow": "deep_kick", "moderate": "kick", "fast": "hard_kick"}
CYMBAL: dict[Density, tuple[str, int] | None] = {"sparse": None, "medium": ("hat", 4), "dense": ("ride", 2)}
"""The cymbal of each density, if it has one, and the sixteenths from one hit to the next."""
DRUM_GAINS = dict.fromkeys(KICKS, 0.9) | dict.fromkeys(CYMBALS, 0.35) | {"snare": 0.6, "clap": 0.6, "tom": 0.6}
PARTS = (("drums",), ("bass",), ("chords",), ("lead", "arpeggio"))
"""The parts of a song, each with the voices that may play it, of which a song has one at most."""


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
    chords: str | None
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

    @property
    def instruments(self) -> tuple[str, ...]:
        """The instruments that play, each once."""
        names = (self.lead, self.arpeggio, self.chords, "bass" if self.bass else None)
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def solo(self) -> str | None:
        """The instrument that plays alone, if one does."""
        return self.instruments[0] if len(self.instruments) == 1 and not self.drums else None


class Event(NamedTuple):
    """A note or a drum's hit."""

    voice: str
    """drums, bass, chords, arpeggio or lead."""
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
    solo = str(random.choice(list(INSTRUMENTS))) if random.random() < SOLO else None
    density = DENSITIES[random.integers(len(DENSITIES))]
    has_arpeggio = random.random() < {"sparse": 0.0, "medium": 0.25, "dense": 0.5}[density]
    has_lead = not has_arpeggio and random.random() < 0.75
    lead = str(random.choice(LEADS)) if has_lead else None
    arpeggio = str(random.choice(ARPEGGIOS)) if has_arpeggio else None
    chords: str | None = str(random.choice(CHORDS))
    drums, bass = bool(random.random() < 0.5), bool(random.random() < 0.4)
    if solo:
        # Of a choice of voices that the instrument can play, chords come first: they tell most of mode and rhythm.
        drums, bass, lead, arpeggio = False, solo == "bass", None, None
        chords = solo if solo in CHORDS else None
        if not chords and not bass:
            lead, arpeggio = (None, solo) if has_arpeggio and solo in ARPEGGIOS else (solo, None)
    return Style(
        mode="major" if random.random() < 0.5 else "minor",
        key=str(random.choice(list(KEYS))),
        pace=random.choice(list(FRAMES_PER_STEP)),
        drums=drums,
        brightness=random.choice(["dark", "bright"]),
        density=density,
        lead=lead,
        chords=chords,
        arpeggio=arpeggio,
        bass=bass,
    )


def compose(style: Style, random: np.random.Generator) -> list[Event]:
    """The events of a song's loop, ordered by voice."""
    roots = PROGRESSIONS[random.integers(len(PROGRESSIONS))]
    events: list[Event] = []
    if style.chords:
        events += _chords(style, style.chords, roots)
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
    style: Style, events: list[Event], frames: int, *, start: int = 0, voices: tuple[str, ...] | None = None
) -> Samples:
    """Mono samples `[frames * 1280]` of a song, from frame `start` of its loop.

    `voices`: only these of drums, bass, chords, arpeggio and lead; None: all.
    """
    mix = np.zeros(frames * HOP, np.float32)
    for event in events:
        if voices is not None and event.voice not in voices:
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


def _within(lowest: int, style: Style, degree: int) -> int:
    """The MIDI number of a degree of the scale (0: the tonic) in the octave from `lowest`."""
    return lowest + (KEYS[style.key] + SCALES[style.mode][degree % 7] - lowest) % 12


def _chords(style: Style, sound: str, roots: tuple[int, ...]) -> list[Event]:
    length = {"sparse": 8, "medium": 4, "dense": 2}[style.density]
    return [
        Event("chords", sound, _within(LOWEST_CHORD[style.brightness], style, root + degree), step, length, 0.13)
        for half, root in enumerate(roots)
        for step in range(half * STEPS_PER_CHORD, (half + 1) * STEPS_PER_CHORD, length)
        for degree in (0, 2, 4)
    ]


def _bass(style: Style, roots: tuple[int, ...]) -> list[Event]:
    length = {"sparse": 8, "medium": 4, "dense": 4}[style.density]
    return [
        Event("bass", "bass", _within(LOWEST_BASS, style, root), step, length, 0.28)
        for half, root in enumerate(roots)
        for step in range(half * STEPS_PER_CHORD, (half + 1) * STEPS_PER_CHORD, length)
    ]


def _arpeggio(style: Style, sound: str, roots: tuple[int, ...], random: np.random.Generator) -> list[Event]:
    length = 1 if style.density == "dense" and style.pace != "fast" else 2
    shapes = ((0, 1, 2, 1), (2, 1, 0, 1), (0, 2, 1, 2), (0, 1, 2, 0))
    shape = shapes[random.integers(len(shapes))]
    events = []
    for half, root in enumerate(roots):
        tones = sorted(_within(LOWEST_LEAD[style.brightness], style, root + degree) for degree in (0, 2, 4))
        for i in range(STEPS_PER_CHORD // length):
            step = half * STEPS_PER_CHORD + i * length
            events.append(Event("arpeggio", sound, tones[shape[i % 4]], step, length, LEAD_GAIN))
    return events


RHYTHMS: dict[Density, tuple[tuple[int, ...], ...]] = {
    "sparse": ((8,),),
    "medium": ((4, 4), (6, 2)),
    "dense": ((2, 2, 2, 2), (2, 2, 4), (4, 2, 2)),
}


def _lead(style: Style, sound: str, roots: tuple[int, ...], random: np.random.Generator) -> list[Event]:
    lowest = LOWEST_LEAD[style.brightness]
    tones = sorted(_within(lowest, style, degree) for degree in range(7))
    rhythms = [RHYTHMS[style.density][random.integers(len(RHYTHMS[style.density]))] for _ in range(2)]
    events = []
    position = int(random.integers(len(tones)))
    for half, root in enumerate(roots):
        chord = [tones.index(_within(lowest, style, root + degree)) for degree in (0, 2, 4)]
        step = half * STEPS_PER_CHORD
        for length in rhythms[half % 2]:
            if step % STEPS_PER_CHORD == 0:  # strong beats take the chord's nearest note
                position = min(chord, key=lambda tone: abs(tone - position))
            events.append(Event("lead", sound, tones[position], step, length, LEAD_GAIN))
            position = int(np.clip(position + random.choice([-2, -1, -1, 1, 1, 2]), 0, len(tones) - 1))
            step += length
    return events


def _drums(style: Style, random: np.random.Generator) -> list[Event]:
    kicks = {"sparse": ((0,), (0, 8)), "medium": ((0, 8), (0, 8, 10)), "dense": ((0, 4, 8, 12), (0, 6, 8, 14))}
    kick = kicks[style.density][random.integers(2)]
    back = "snare" if random.random() < 0.6 else "clap"
    cymbal = CYMBAL[style.density]
    offbeat = style.density != "sparse" and random.random() < 0.4
    events = []
    for bar in range(BARS):
        first = bar * STEPS_PER_BAR
        events += [(KICK[style.pace], first + step) for step in kick]
        events += [(back, first + step) for step in ((8,) if style.density == "sparse" else (4, 12))]
        if cymbal:
            name, steps = cymbal
            events += [(name, first + step) for step in range(0, STEPS_PER_BAR, steps)]
        if offbeat:
            events += [("open_hat", first + step) for step in (6, 14)]
    events += [("tom", BARS * STEPS_PER_BAR - 4), ("tom", BARS * STEPS_PER_BAR - 2)]
    return [Event("drums", name, 0, step, 1, DRUM_GAINS[name]) for name, step in events]
