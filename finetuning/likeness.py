"""Whether two pieces of audio are the same recording, in another file format or at another level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import stft

from musicgen_core.audio.waveform import Waveform

FRAME_SECONDS, HOP_SECONDS = 0.4, 0.1
BANDS = 24
LOWEST_HZ, HIGHEST_HZ = 200.0, 5_000.0
"""Encoders keep this range."""
FLOOR = 1e-5
"""-50 dB below the loudest band: what is quieter is not compared."""
SAME = 0.9
"""Correlation from which on two pieces are the same. The same recording as an MP3 of 64 kbit/s has 0.97 or more."""
LENGTHS_DIFFER = 3
"""Frames by which the lengths of two copies may differ: encoders pad."""

Fingerprint = NDArray[np.float32]
"""How the loudness of each band rises and falls, `[frames, bands]`."""


def fingerprint(waveform: Waveform) -> Fingerprint:
    """What is compared of a piece of audio that is longer than half a second."""
    rate = waveform.sample_rate
    size, hop = round(FRAME_SECONDS * rate), round(HOP_SECONDS * rate)
    hertz, _, spectrum = stft(waveform.samples.mean(axis=0), rate, nperseg=size, noverlap=size - hop, padded=False)
    edges = np.searchsorted(hertz, np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1))
    power = np.add.reduceat(np.abs(spectrum) ** 2, edges, axis=0)[:BANDS].T
    levels = np.log(np.maximum(power, FLOOR * power.max() + 1e-20))
    # Differences in time and from band to band: neither the level nor an equaliser changes them.
    changes: Fingerprint = np.diff(np.diff(levels, axis=0), axis=1).astype(np.float32)
    return changes


def is_same(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether two fingerprints are those of one recording."""
    if abs(len(first) - len(second)) > LENGTHS_DIFFER:
        return False
    frames = min(len(first), len(second))
    a, b = first[:frames].ravel(), second[:frames].ravel()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    # Without any change, as in a held tone, there is nothing to tell pieces apart by.
    return norm > 0 and float(a @ b) > SAME * norm
