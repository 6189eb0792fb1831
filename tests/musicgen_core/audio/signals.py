"""Test signals, and audio files read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from musicgen_core.audio.ffmpeg import read_audio
from musicgen_core.audio.waveform import Waveform

RATE = 32_000


def sine(frequency: float, seconds: float, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def waveform(*channels: np.ndarray, rate: int = RATE) -> Waveform:
    return Waveform(np.stack(channels).astype(np.float32), rate)


def read(path: Path, *, channels: int = 1, max_seconds: float = 30.0) -> Waveform:
    return read_audio(path, sample_rate=RATE, channels=channels, max_seconds=max_seconds)
