"""Measures attributes of music from its signal: tempo, percussion, mode, brightness, density, instruments, beat, form.

Each of the first five is one number and a threshold, which was set on synthesised songs of known style, both as they
are and decoded by the codec. Captions and tokens are not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import librosa
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, median_filter
from scipy.optimize import nnls

from training.instruments import CHORDS, INSTRUMENTS, SAMPLE_RATE, Samples, note
from training.instruments import HOP as CODEC_HOP
from training.music import (
    BARS,
    FRAMES_PER_STEP,
    LOWEST_BASS,
    LOWEST_CHORD,
    LOWEST_LEAD,
    STEPS_PER_BAR,
    Style,
    compose,
    random_style,
    render,
)

MEASURE_STREAM = 5
HOP = 640
"""Samples per frame of the onset envelope: 50 frames per second."""
FINE_HOP = 160
"""Samples per frame where onsets are held against a grid: 200 frames per second."""
TOLERANCE = 0.02
"""Seconds by which an onset may miss the grid."""
BLOCK = SAMPLE_RATE // 2
"""Samples of the blocks in which instruments are looked for."""


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

    loop = BARS * STEPS_PER_BAR * CODEC_HOP // HOP
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
    """Onsets per second: peaks of the onset energy that are no nearer to each other than a tenth of a second."""
    flux = _onset_energy(samples)
    least = 0.3 * np.quantile(flux, 0.995)
    onsets = librosa.util.peak_pick(flux, pre_max=8, post_max=8, pre_avg=20, post_avg=20, delta=least, wait=20)
    return len(onsets) / (samples.size / SAMPLE_RATE)


def _onset_energy(samples: Samples) -> NDArray[np.float64]:
    """A spectral flux over 15 ms that ignores vibrato (SuperFlux; Böck and Widmer, 2013), less the median around it."""
    mel = librosa.feature.melspectrogram(
        y=samples, sr=SAMPLE_RATE, n_fft=2048, hop_length=FINE_HOP, n_mels=40, power=1.0, fmin=100.0
    )
    levels = maximum_filter1d(np.log1p(100 * mel / mel.max()), 3, axis=0)
    flux = np.maximum(levels[:, 3:] - levels[:, :-3], 0).sum(0)
    energy: NDArray[np.float64] = np.maximum(flux - median_filter(flux, 61), 0)
    return energy


def on_grid(samples: Samples, frames_per_step: int) -> float:
    """The share of onset energy within 20 ms of the sixteenths of a tempo, whose phase is fitted.

    What is below a fifth of the clip's peaks does not count.
    """
    flux = _onset_energy(samples)
    flux = np.maximum(flux - 0.2 * np.quantile(flux, 0.99), 0)
    step, reach = frames_per_step * CODEC_HOP // FINE_HOP, round(TOLERANCE * SAMPLE_RATE / FINE_HOP)
    by_phase = np.bincount(np.arange(flux.size) % step, weights=flux, minlength=step)
    near = sum(np.roll(by_phase, shift) for shift in range(-reach, reach + 1))
    return float(np.max(near) / (flux.sum() + 1e-9))


def bar_similarity(samples: Samples, frames_per_step: int, distance: int = 1) -> float:
    """The mean correlation of the log-mel spectrogram of each bar of a tempo with that of the bar `distance` later."""
    mel = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=2048, hop_length=HOP, n_mels=64)
    levels = np.log10(mel + 1e-6 * mel.max())
    levels -= levels.mean(axis=1, keepdims=True)
    bar = STEPS_PER_BAR * frames_per_step * CODEC_HOP // HOP
    bars = [levels[:, first : first + bar] for first in range(0, levels.shape[1] - bar + 1, bar)]
    pairs = zip(bars, bars[distance:], strict=False)
    return float(np.mean([(a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum() + 1e-9) for a, b in pairs]))


def loudest_instrument(samples: Samples) -> str:
    """The one of `INSTRUMENTS` whose notes explain most of the signal's spectrum."""
    names, spectra = _notes()
    energies = np.zeros(len(names))
    for first in range(0, samples.size - BLOCK + 1, BLOCK):
        energies += nnls(spectra, _magnitudes(samples[first : first + BLOCK]))[0]
    totals = {name: energies[names == name].sum() for name in INSTRUMENTS}
    return max(totals, key=lambda name: totals[name])


def _magnitudes(samples: Samples) -> NDArray[np.float64]:
    """The mean magnitude of each frequency up to 6 kHz."""
    spectrum = np.abs(librosa.stft(samples, n_fft=4096, hop_length=1024))
    magnitudes: NDArray[np.float64] = spectrum[: 6000 * 4096 // SAMPLE_RATE].mean(axis=1).astype(np.float64)
    return magnitudes


@cache
def _notes() -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """The instruments' names `[notes]` and spectra `[frequencies, notes]` of all notes that they play, of norm 1."""
    names, spectra = [], []
    for name in INSTRUMENTS:
        for brightness in ("dark", "bright"):
            lowest = {"bass": LOWEST_BASS}.get(name, (LOWEST_CHORD if name in CHORDS else LOWEST_LEAD)[brightness])
            octaves = 24 if name == "piano" else 12  # it plays chords and leads
            for pitch in range(lowest, lowest + octaves):
                spectrum = _magnitudes(note(name, brightness, pitch, BLOCK // CODEC_HOP))
                names.append(name)
                spectra.append(spectrum / np.linalg.norm(spectrum))
    return np.array(names), np.stack(spectra, axis=1)


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
        -3.2,
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
        lambda style: style.mode == "major" and style.chords is not None,
        lambda style: style.mode == "minor" and style.chords is not None,
        high=("happy music", "a cheerful piano tune in a major key", "uplifting strings", "joyful song in C major",
              "organ chords, major key"),
        low=("sad music", "a melancholic piano tune in a minor key", "sorrowful strings", "gloomy song in C minor",
             "organ chords, minor key"),
    ),
    "bright or dark": Attribute(
        brightness,
        2.66,
        lambda style: style.brightness == "bright",
        lambda style: style.brightness == "dark",
        high=("bright music", "a sparkling piano tune", "bright sound, guitar", "crisp song, high and bright",
              "brilliant strings"),
        low=("dark music", "a muffled piano tune", "dark sound, guitar", "mellow song, low and dark",
             "warm and dark strings"),
    ),
    "dense or sparse": Attribute(
        density,
        1.6,
        lambda style: style.density == "dense",
        lambda style: style.density == "sparse",
        high=("dense music", "a busy piano tune with many notes", "rich and busy guitar song",
              "full track, dense texture", "busy music for synthesizer"),
        low=("sparse music", "a minimal piano tune with few notes", "calm and sparse guitar song",
             "minimalist track, sparse texture", "minimal music for synthesizer"),
    ),
}  # fmt: skip


SOLO_PROMPTS = ("solo {}", "{} alone", "nothing but a {}", "just a {}", "unaccompanied {}")


def labelled_songs(seed: int, count: int, frames: int) -> list[tuple[Style, Samples]]:
    """Songs that are not part of the training, each with its style."""
    songs = []
    for index in range(count):
        random = np.random.default_rng([MEASURE_STREAM, seed, index])
        style = random_style(random)
        songs.append((style, render(style, compose(style, random), frames)))
    return songs
