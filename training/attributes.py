"""Measures attributes of music: tempo, percussion, mode, brightness and density of a signal, with librosa's features.

Each attribute is one number and a threshold. The thresholds were set on synthesised songs of known style, both as they
are and decoded by the codec. Captions and tokens are not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import librosa
import numpy as np
from scipy.ndimage import maximum_filter1d

from training.instruments import SAMPLE_RATE, Samples
from training.music import BARS, FRAMES_PER_STEP, STEPS_PER_BAR, Style, compose, random_style, render

MEASURE_STREAM = 5
HOP = 640
"""Samples per frame of the onset envelope: 50 frames per second."""


def tempo(samples: Samples) -> float:
    """How much better the signal repeats after two bars of the fast tempo than after two bars of the slow one.

    Beats cannot distinguish the two: eighths at 75 beats per minute are quarters at 150. Bars can.
    """
    mel = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=2048, hop_length=HOP, n_mels=40, power=1.0)
    rises = np.maximum(np.diff(np.log1p(30 * mel), axis=1), 0)
    rises -= rises.mean(axis=1, keepdims=True)

    def similarity(lag: int) -> float:
        first, second = rises[:, :-lag], rises[:, lag:]
        return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum() + 1e-9))

    loop = BARS * STEPS_PER_BAR
    return similarity(loop * FRAMES_PER_STEP["fast"]) - similarity(loop * FRAMES_PER_STEP["slow"])


def percussion(samples: Samples) -> float:
    """Ratio, in log10, of the energy above 10 kHz in the clip's brightest moments to the mean energy of the clip.

    Only drums reach above 10 kHz.
    """
    power = np.abs(librosa.stft(samples, n_fft=1024, hop_length=HOP // 2)) ** 2
    high = power[librosa.fft_frequencies(sr=SAMPLE_RATE, n_fft=1024) > 10_000].sum(0)
    return float(np.log10(np.quantile(high, 0.98) / power.sum(0).mean() + 1e-9))


def mode(samples: Samples) -> float:
    """Evidence for major triads minus evidence for minor triads, over all roots and half seconds."""
    harmonic = librosa.effects.harmonic(samples, margin=2.0)
    chroma = librosa.feature.chroma_cqt(y=harmonic, sr=SAMPLE_RATE, hop_length=2048, fmin=65.4, n_octaves=5)
    chroma = librosa.util.normalize(chroma, axis=0, norm=2)
    block = 8
    blocks = chroma[:, : chroma.shape[1] // block * block].reshape(12, -1, block).mean(2)
    best = {}
    for name, third in (("major", 4), ("minor", 3)):
        template = np.zeros(12)
        template[[0, third, 7]] = 1.0
        best[name] = np.max([np.roll(template, root) @ blocks for root in range(12)], axis=0)
    return float((best["major"] - best["minor"]).mean())


def brightness(samples: Samples) -> float:
    """Centroid of the clip's energy in log10 of Hz, from 200 Hz to 5 kHz, which excludes bass and cymbals."""
    spectrum = np.abs(librosa.stft(samples, n_fft=2048, hop_length=1024))
    frequencies = librosa.fft_frequencies(sr=SAMPLE_RATE, n_fft=2048)
    kept = (frequencies > 200) & (frequencies < 5000)
    power = spectrum[kept] ** 2
    return float(np.log10((power * frequencies[kept, None]).sum() / (power.sum() + 1e-9)))


def density(samples: Samples) -> float:
    """Onsets per second: peaks of a spectral flux that ignores vibrato (SuperFlux; Böck and Widmer, 2013)."""
    mel = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=2048, hop_length=HOP, n_mels=60, power=1.0)
    levels = np.log1p(100 * mel / mel.max())
    flux = np.maximum(levels[:, 2:] - maximum_filter1d(levels, 3, axis=0)[:, :-2], 0).sum(0)
    least = 0.35 * np.quantile(flux, 0.99)
    onsets = librosa.util.peak_pick(flux, pre_max=3, post_max=3, pre_avg=8, post_avg=8, delta=least, wait=4)
    return len(onsets) / (samples.size / SAMPLE_RATE)


@dataclass(frozen=True)
class Attribute:
    """A measurement, the two kinds of style that it distinguishes, and prompts that ask for them."""

    measure: Callable[[Samples], float]
    threshold: float
    """Lies between the two kinds' values on songs of known style."""
    is_high: Callable[[Style], bool]
    """Whether a style is of the kind that measures high."""
    is_low: Callable[[Style], bool]
    """Whether a style is of the kind that measures low."""
    high: tuple[str, ...]
    """Prompts for the kind that measures high."""
    low: tuple[str, ...]
    """Prompts for the kind that measures low."""
    seconds: int = 8
    """Length of the measured clips."""

    def is_right(self, samples: Samples, *, high: bool) -> bool:
        """Whether a clip is of the kind that its prompt asked for."""
        return (self.measure(samples) > self.threshold) == high

    def concerns(self, style: Style) -> bool:
        """Whether a style is of one of the two kinds."""
        return self.is_high(style) or self.is_low(style)


ATTRIBUTES = {
    "fast or slow": Attribute(
        tempo,
        -0.06,
        lambda style: style.pace == "fast" and style.drums,
        lambda style: style.pace == "slow" and style.drums,
        high=("fast music with drums", "an up-tempo track with a drum beat", "quick piano tune, driving tempo, drums",
              "synthesizer song with percussion at a fast pace", "allegro guitar piece, drum groove"),
        low=("slow music with drums", "an unhurried track with a drum beat", "slow piano tune, relaxed tempo, drums",
             "synthesizer song with percussion at a slow pace", "adagio guitar piece, drum groove"),
        seconds=14,  # two loops at the slowest tempo
    ),
    "percussion or none": Attribute(
        percussion,
        -5.1,
        lambda style: style.drums,
        lambda style: not style.drums,
        high=("music with drums", "a piano tune with percussion", "track with a drum beat", "strings, drum groove",
              "percussive guitar song with drums"),
        low=("music without drums", "a piano tune, no percussion", "drumless track", "strings, no drums",
             "beatless guitar song without percussion"),
    ),
    "major or minor": Attribute(
        mode,
        0.0,
        lambda style: style.mode == "major",
        lambda style: style.mode == "minor",
        high=("happy music", "a cheerful piano tune in a major key", "uplifting strings", "joyful song in C major",
              "organ chords, major key"),
        low=("sad music", "a melancholic piano tune in a minor key", "sorrowful strings", "gloomy song in C minor",
             "organ chords, minor key"),
    ),
    "bright or dark": Attribute(
        brightness,
        2.68,
        lambda style: style.brightness == "bright",
        lambda style: style.brightness == "dark",
        high=("bright music", "a sparkling piano tune", "bright sound, guitar", "crisp song, high and bright",
              "brilliant strings"),
        low=("dark music", "a muffled piano tune", "dark sound, guitar", "mellow song, low and dark",
             "warm and dark strings"),
    ),
    "dense or sparse": Attribute(
        density,
        1.5,
        lambda style: style.density == "dense",
        lambda style: style.density == "sparse",
        high=("dense music", "a busy piano tune with many notes", "rich and busy guitar song",
              "full track, dense texture", "busy music for synthesizer"),
        low=("sparse music", "a minimal piano tune with few notes", "calm and sparse guitar song",
             "minimalist track, sparse texture", "minimal music for synthesizer"),
    ),
}  # fmt: skip


def labelled_songs(seed: int, count: int, frames: int) -> list[tuple[Style, Samples]]:
    """Songs that are not part of the training, each with its style."""
    songs = []
    for index in range(count):
        random = np.random.default_rng([MEASURE_STREAM, seed, index])
        style = random_style(random)
        songs.append((style, render(style, compose(style, random), frames)))
    return songs
