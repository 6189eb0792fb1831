"""Sounds that both sides synthesise, so that no audio is stored.

NumPy guarantees that the streams of RandomState never change.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]
RATE = 32_000


def tune(seconds: float, seed: int = 0) -> Sound:
    """`[1, samples]`: a new note every half second, with overtones, over a little noise."""
    random = np.random.RandomState(seed)
    notes = 220 * 2 ** (random.randint(0, 25, 1 + int(2 * seconds)) / 12)
    time = np.arange(round(seconds * RATE)) / RATE
    frequency = notes[(2 * time).astype(int)]
    tones = sum(np.sin(2 * np.pi * k * frequency * time) / k**2 for k in (1, 2, 3))
    sound: Sound = (0.25 * tones + 0.01 * random.standard_normal(time.shape))[None].astype(np.float32)
    return sound


def noise(seconds: float, level: float = 0.1, channels: int = 1) -> Sound:
    """`[channels, samples]` of white noise."""
    return (level * np.random.RandomState(1).standard_normal((channels, round(seconds * RATE)))).astype(np.float32)


def silence(seconds: float) -> Sound:
    """`[1, samples]` of zeros."""
    return np.zeros((1, round(seconds * RATE)), np.float32)


def stereo(seconds: float) -> Sound:
    """`[2, samples]`: a tune on the left, and another, quieter one on the right."""
    return np.concatenate([tune(seconds, 2), 0.5 * tune(seconds, 3)])


def click(seconds: float) -> Sound:
    """`[1, samples]`: noise at -50 dBFS and a single loud sample."""
    sound = noise(seconds, 0.003)
    sound[0, RATE // 3] = 0.9
    return sound


def melodies() -> dict[str, Sound]:
    """The sounds of the chroma's comparison by name: shorter than a window, around 30 s, mono and stereo."""
    return {
        "tune of 0.1 s": tune(0.1), "tune of 0.5 s": tune(0.5), "tune of 8.37 s": tune(8.37, 4),
        "tune of 29.9 s": tune(29.9, 5), "tune of 31.3 s": tune(31.3, 6), "stereo of 12 s": stereo(12),
        "noise of 45 s": noise(45), "click in 2 s": click(2), "silence of 1 s": silence(1),
    }  # fmt: skip


def levels() -> dict[str, Sound]:
    """The sounds of the normalisation's comparison by name."""
    return {
        "quiet tune": 0.2 * tune(0.7, 7), "loud tune": np.clip(3 * tune(0.7, 8), -1.5, 1.5), "stereo": stereo(0.7),
        "almost silence": noise(0.7, 1e-3), "silence": silence(0.5), "click": click(0.7),
        "opposite channels": np.concatenate([tune(0.5), -tune(0.5)]),
    }  # fmt: skip
