"""Captions: a style in free words, different each time.

A caption names a random selection of a style's attributes in random order, with synonyms and matching mood words. Some
hold words that mean nothing, and some hold nothing else: people write of more than a song's attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from training.instruments import INSTRUMENTS
from training.music import Style

PACES = {
    "slow": ("slow", "slow tempo", "at a slow pace", "unhurried", "relaxed tempo", "adagio"),
    "moderate": ("moderate tempo", "mid-tempo", "at a moderate pace", "medium tempo", "andante"),
    "fast": ("fast", "fast tempo", "quick", "up-tempo", "at a fast pace", "driving tempo", "allegro"),
}
MODES = {
    "major": ("major", "in a major key", "major key", "happy", "cheerful", "joyful", "uplifting", "happy major"),
    "minor": ("minor", "in a minor key", "minor key", "sad", "melancholic", "sorrowful", "gloomy", "sad minor"),
}
BRIGHTNESSES = {
    "bright": ("bright", "brilliant", "sparkling", "high and bright", "bright sound", "crisp"),
    "dark": ("dark", "muffled", "low and dark", "dark sound", "mellow", "warm and dark"),
}
DENSITIES = {
    "dense": ("dense", "busy", "many notes", "full", "rich and busy", "dense texture"),
    "sparse": ("sparse", "minimal", "few notes", "minimalist", "calm and sparse", "sparse texture"),
    "medium": (),
}
DRUMS = {
    True: ("with drums", "with percussion", "drums", "with a drum beat", "drum groove", "percussive"),
    False: ("no drums", "without drums", "no percussion", "without percussion", "drumless", "beatless"),
}
MOODS: dict[tuple[str, str], tuple[str, ...]] = {
    ("major", "fast"): ("energetic", "playful", "upbeat", "exciting"),
    ("major", "slow"): ("peaceful", "gentle", "dreamy", "tender"),
    ("minor", "fast"): ("tense", "dramatic", "urgent", "restless"),
    ("minor", "slow"): ("mournful", "lonely", "wistful", "sombre"),
}
Holds = Callable[[Style], bool]
GENRES: tuple[tuple[str, Holds], ...] = (
    ("ambient", lambda style: style.pace == "slow" and style.density == "sparse" and not style.drums),
    ("lullaby", lambda style: style.pace == "slow" and not style.drums and "music_box" in style.instruments),
    ("hymn", lambda style: style.pace == "slow" and not style.drums and style.chords == "organ"),
    ("ballad", lambda style: style.pace == "slow" and style.density != "dense" and style.chords == "piano"),
    ("lo-fi", lambda style: style.pace != "fast" and style.drums and style.brightness == "dark"),
    ("chillout", lambda style: style.pace == "slow" and style.drums),
    ("techno", lambda style: style.pace == "fast" and style.drums and "synth" in style.instruments),
    ("dance", lambda style: style.pace == "fast" and style.drums and style.density != "sparse"),
    ("rock", lambda style: style.pace != "slow" and style.drums and "guitar" in style.instruments),
    ("folk", lambda style: not style.drums and "guitar" in style.instruments),
    ("pop", lambda style: style.pace != "slow" and style.drums and style.mode == "major"),
    ("cinematic", lambda style: style.mode == "minor" and style.chords == "strings"),
    ("chiptune", lambda style: style.brightness == "bright" and style.arpeggio == "synth"),
)
"""Kinds of music that people ask for, and the songs that come nearest to each."""
SOLO = ("solo {}", "{} solo", "{} alone", "just a {}", "only {}", "nothing but {}", "unaccompanied {}", "a single {}")
NOUNS = ("music", "tune", "piece", "song", "track", "melody", "instrumental", "composition", "soundtrack", "theme")
SCENES = (
    "about {}", "for {}", "like {}", "of {}", "under {}", "by {}", "from {}", "my {}", "the {}", "{}", "and {}",
    "to {}", "for a {}", "like an old {}", "on the {}", "when {}", "{} again", "in the style of {}",
)  # fmt: skip
"""Phrases for words that are invented of `CONSONANTS`, `VOWELS` and `ENDINGS`."""
CONSONANTS = (*"bcdfghjklmnprstvwz", "st", "tr", "ch")
VOWELS = ("a", "e", "i", "o", "u", "ea", "oo", "y")
ENDINGS = ("", "", "r", "n", "s", "t", "l", "ng", "d", "ck")
NOISE, ONLY_NOISE = 0.25, 0.03
"""Probabilities that a caption holds words that mean nothing, and that it holds nothing else."""


def caption(style: Style, random: np.random.Generator) -> str:
    """Draw a caption of `style`."""
    kind = random.random()
    if kind < ONLY_NOISE:
        return _noise(random)
    said = _description(style, random)
    if kind < ONLY_NOISE + NOISE:
        said = f"{said} {_noise(random)}" if random.random() < 0.7 else f"{_noise(random)} {said}"
    return said


def _noise(random: np.random.Generator) -> str:
    """One to three invented words in a phrase."""
    words = []
    for _ in range(random.integers(1, 4)):
        syllables = [
            "".join(str(random.choice(part)) for part in (CONSONANTS, VOWELS)) for _ in range(random.integers(1, 4))
        ]
        words.append("".join(syllables) + str(random.choice(ENDINGS)))
    return str(random.choice(SCENES)).format(" ".join(words))


def _description(style: Style, random: np.random.Generator) -> str:
    def pick(choices: Any) -> str:
        return str(choices[random.integers(len(choices))])

    def mention(probability: float) -> bool:
        return bool(random.random() < probability)

    told = random.uniform(0.1, 0.9)  # short captions and long ones
    words: list[str] = []
    for table, value in (
        (PACES, style.pace),
        (MODES, style.mode),
        (BRIGHTNESSES, style.brightness),
        (DENSITIES, style.density),
    ):
        if table[value] and mention(told):
            words.append(pick(table[value]))
    if mention(told):
        words.append(pick(DRUMS[style.drums]))
    if (style.mode, style.pace) in MOODS and mention(told / 2):
        words.append(pick(MOODS[style.mode, style.pace]))
    if mention(told / 4):
        words.append(pick((f"{style.beats_per_minute:.0f} bpm", f"{style.beats_per_minute:.0f} beats per minute")))
    if mention(told / 3):
        words.append(f"in {style.key} {style.mode}")
    if mention(told / 2) and (genres := [name for name, holds in GENRES if holds(style)]):
        words.append(pick(genres))
    instruments = _instruments(style, told, pick, mention)
    random.shuffle(words)
    return _sentence(words, instruments, pick, mention)


def _instruments(style: Style, told: float, pick: Any, mention: Any) -> list[str]:
    if style.solo and mention(0.85):
        return [pick(SOLO).format(pick(INSTRUMENTS[style.solo].names))]
    phrases = []
    if style.lead and mention(told):
        name = pick(INSTRUMENTS[style.lead].names)
        phrases.append(pick((f"{name} melody", f"{name} lead", name, f"a {name} playing the melody")))
    if style.chords and mention(told):
        name = pick(INSTRUMENTS[style.chords].names)
        phrases.append(pick((f"{name} chords", name, f"{name} harmony", f"{name} pad")))
    if style.arpeggio and mention(told):
        name = pick(INSTRUMENTS[style.arpeggio].names)
        phrases.append(pick((f"{name} arpeggio", "arpeggio", f"arpeggiated {name}", f"{name} arpeggios")))
    if style.bass and mention(told / 2):
        phrases.append(pick(("bass", "bass line", "deep bass")))
    return phrases


def _sentence(words: list[str], instruments: list[str], pick: Any, mention: Any) -> str:
    joined = pick((" and ", ", ")).join(instruments)
    if mention(0.4):  # a list of tags
        parts = words + instruments
        return ", ".join(parts) if parts else pick(NOUNS)
    adjectives = [
        word
        for word in words
        if " " not in word and not word.endswith("less") and word not in ("drums", "major", "minor")
    ]
    phrases = [word for word in words if word not in adjectives]
    text = " ".join([*adjectives, pick(NOUNS)])
    if mention(0.3):
        text = ("an " if text[0] in "aeiou" else "a ") + text
    if joined:
        text += pick((" with ", ", ", " featuring ", " for ")) + joined
    for phrase in phrases:
        text += ("" if phrase.startswith(("with", "in ", "at ")) and mention(0.6) else ",") + " " + phrase
    return text[0].upper() + text[1:] + ("." if mention(0.3) else "") if mention(0.4) else text
