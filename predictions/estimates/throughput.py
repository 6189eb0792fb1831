"""How fast the workers of a queue are, as they measured it themselves, kept in Redis.

A busy worker writes down every second what a decoding step took, and for each prediction what its other work took.
Newer measurements count more. A step's time is kept for each number of requests that shared it, so that a quiet hour
does not erase what many requests at once cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from predictions.record.command import Arguments, Command
from predictions.record.schema import Field

NEWEST_SHARE = 0.3
"""The weight of the newest measurement in a figure."""
KEPT_SECONDS = 7 * 24 * 3600
"""A version's figures are forgotten this long after its last measurement."""
SHARING_COST = 0.2
"""What one more request adds to a step, as a share of one request's step, where that has not been measured.

Two CPU cores showed 0.13 to 0.3 (docs/performance.md). On a GPU it is less, and soon measured.
"""


@dataclass(frozen=True)
class Throughput:
    """What was measured for one version of a model, in seconds."""

    figures: Mapping[str, float]
    """By the field names `Field.step_seconds` and `Field.other_seconds`."""

    @property
    def is_known(self) -> bool:
        """Whether steps and other work have both been measured."""
        return bool(self._steps) and any(_other(diffusion) in self.figures for diffusion in (False, True))

    def step_seconds(self, together: float) -> float:
        """The time of a decoding step that `together` requests share, from the nearest number that was measured."""
        nearest = min(self._steps, key=lambda known: abs(known - together))
        scale = (1 + SHARING_COST * max(together, 1.0)) / (1 + SHARING_COST * nearest)
        return self._steps[nearest] * scale

    def other_seconds(self, diffusion: bool) -> float:
        """The work on a second of music that is not decoding steps; the other decoder's, until this one is measured."""
        measured = self.figures.get(_other(diffusion))
        return self.figures[_other(not diffusion)] if measured is None else measured

    @cached_property
    def _steps(self) -> dict[int, float]:
        prefix = Field.step_seconds("")
        return {
            int(name.removeprefix(prefix)): seconds for name, seconds in self.figures.items() if name.startswith(prefix)
        }


def measured_steps(queue: str, version: str, *, together: float, step_seconds: float) -> Command[bool]:
    """Write down what a decoding step took, and how many requests shared it."""
    return _measured(queue, version, Field.step_seconds(max(1, round(together))), step_seconds)


def measured_other(queue: str, version: str, *, seconds: float, diffusion: bool) -> Command[bool]:
    """Write down what the other work on a second of a prediction's music took."""
    return _measured(queue, version, _other(diffusion), seconds)


def _measured(queue: str, version: str, figure: str, value: float) -> Command[bool]:
    arguments: Arguments = {
        "queue": queue,
        "version": version,
        "figure": figure,
        "value": value,
        "newest_share": NEWEST_SHARE,
        "keep_seconds": KEPT_SECONDS,
    }
    return Command("estimates/measure", arguments, bool)


def _other(diffusion: bool) -> str:
    return Field.other_seconds("diffusion" if diffusion else "codec")
