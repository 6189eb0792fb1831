"""What an engine measures of its work, for whoever watches it. Numbers alone: the engine's thread must not wait."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

STEP_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024, 0.032, 0.064, 0.128, 0.256, 1.0)
ADMISSION_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256)


@dataclass(frozen=True)
class Distribution:
    """How many values there were up to each of some bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    """Values up to each bound, and above the one before it; at last those above all bounds."""
    total: float
    """The sum of all values."""


class Counted:
    """Counts values. One thread adds to it, without a lock; what others read may lack the newest value's part."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds`: ascending."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Distribution:
        """What has been counted."""
        return Distribution(self._bounds, tuple(self._counts), self._total)


@dataclass(frozen=True)
class EngineMeasures:
    """What an engine has done since it was made, and what it does now."""

    slots: int = 0
    """How many requests it can generate together."""
    slots_in_use: int = 0
    slot_bytes: int = 0
    """Memory of one slot's keys and values."""
    waiting_tasks: int = 0
    """Computations beside decoding that wait for its thread."""
    steps: Distribution | None = None
    """Seconds of decoding steps. A GPU is given a step and not waited for: there, only the mean over many counts."""
    batches: Distribution | None = None
    """How many requests a step advanced, each by a frame."""
    admissions: Distribution | None = None
    """Seconds of computing what is known of a request before its first step; pauses for the others' steps left out."""
