"""How fast a queue's workers are, measured by them and kept in Redis, and the estimates that follow from it.

A busy worker writes down every second what a decoding step took, and of each prediction what it took beside; newer
figures count more. A step's time is kept for each number of requests that shared it, so that a quiet hour does not make
forget what many at once cost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from predictions.estimates.simulation import Estimate, Work, beyond, estimate_all
from predictions.models.card import ModelCard
from predictions.record.command import Command
from predictions.record.prediction import DELAY_STEPS, STEPS_PER_SECOND, Prediction

NEWEST_SHARE = 0.3
"""How much of a kept figure the newest measurement makes."""
KEPT_SECONDS = 7 * 24 * 3600
"""A version's figures are forgotten this long after its last prediction."""
SHARING_COST = 0.2
"""What one more request adds to a step, as a share of one request's step, where that has not been measured: what two
CPU cores showed (0.13 to 0.3, docs/performance.md). A GPU's is less, which it has soon measured."""
MOST_WAITING = 64
"""So many that wait are looked at; for those behind them, the same pace is taken to go on."""
BEGUN_SHARE = 0.5
"""Of what follows the decoding, where it has begun at an unknown moment."""


@dataclass(frozen=True)
class Pace:
    """What was measured of a queue's model, by name: step:{requests that shared it}, beside:codec, beside:diffusion."""

    figures: Mapping[str, float]

    @property
    def is_known(self) -> bool:
        """Whether anything has been measured."""
        return bool(self._steps) and any(name.startswith("beside:") for name in self.figures)

    def step_seconds(self, together: float) -> float:
        """Of a step that so many requests share; from the nearest number that has been measured."""
        nearest = min(self._steps, key=lambda known: abs(known - together))
        scale = (1 + SHARING_COST * max(together, 1.0)) / (1 + SHARING_COST * nearest)
        return self._steps[nearest] * scale

    def beside_seconds(self, diffusion: bool) -> float:
        """What a second of music takes beside its decoding; by what turns its tokens into sound."""
        by_decoder = self.figures.get(f"beside:{_decoder(diffusion)}")
        # The other decoder's, until this one has been seen.
        return self.figures[f"beside:{_decoder(not diffusion)}"] if by_decoder is None else by_decoder

    @cached_property
    def _steps(self) -> dict[int, float]:
        named = (name.partition(":") for name in self.figures)
        return {int(number): self.figures[f"step:{number}"] for kind, _, number in named if kind == "step"}


def measured_steps(queue: str, version: str, *, together: float, step_seconds: float) -> Command[bool]:
    """Write down what a decoding step took lately, and how many requests shared it."""
    return _measured(queue, version, f"step:{max(1, round(together))}", step_seconds)


def measured_beside(queue: str, version: str, *, seconds: float, diffusion: bool) -> Command[bool]:
    """Write down what a second of a prediction's music took beside decoding."""
    return _measured(queue, version, f"beside:{_decoder(diffusion)}", seconds)


def _measured(queue: str, version: str, name: str, value: float) -> Command[bool]:
    return Command(
        "estimates/measure",
        {
            "queue": queue,
            "version": version,
            "name": name,
            "value": value,
            "newest_share": NEWEST_SHARE,
            "kept_seconds": KEPT_SECONDS,
        },
        bool,
    )


@dataclass(frozen=True)
class Forecast:
    """The estimates for a queue, as it stood at one moment."""

    estimates: Mapping[str, Estimate]
    """By id."""
    waiting: tuple[Estimate, ...] = ()
    """Of those that wait, the next one first."""
    is_known: bool = True
    """False where there is no live worker, or nothing has been measured."""

    def of(self, prediction: Prediction) -> Estimate | None:
        """The estimate for one of the queue's predictions; None where nothing is known."""
        if prediction.id in self.estimates or prediction.queue_position is None:
            return self.estimates.get(prediction.id)
        return beyond(self.waiting, prediction.queue_position)


UNKNOWN = Forecast({}, is_known=False)


def forecast(queue: str) -> Command[Forecast]:
    """Estimates for what runs and waits in a queue; none without a live worker, or before any was measured."""
    return Command("estimates/queue_work", {"queue": queue, "limit": MOST_WAITING}, _read_forecast)


def _read_forecast(answer: Any) -> Forecast:
    workers, card, flat, running, waiting = answer
    pace = Pace(dict(zip(flat[::2], map(float, flat[1::2]), strict=True)))
    if not workers or not pace.is_known:
        return UNKNOWN
    model = ModelCard.model_validate_json(card)
    # Those without progress are in line for a slot, behind those with it.
    running = sorted(running, key=lambda item: (not item[3], float(item[4])))
    estimates = estimate_all(
        [_work(pace, *item[:4]) for item in running],
        [_work(pace, *item[:4]) for item in waiting],
        slots=workers * model.concurrency,
        threads=workers * model.threads,
        step_seconds=lambda together: pace.step_seconds(together / workers),
    )
    return Forecast(estimates, tuple(estimates[item[0]] for item in waiting))


def _work(pace: Pace, id: str, seconds: int, diffusion: int, progress: str = "") -> Work:
    steps, beside = float(seconds * STEPS_PER_SECOND + DELAY_STEPS), seconds * pace.beside_seconds(bool(diffusion))
    if progress:
        done, total = json.loads(progress)
        # The total counts a diffusion's steps too, and knows how much of a continuation is new.
        steps = max(0.0, min(steps, total) - done)
    return Work(id, steps, beside if steps else beside * BEGUN_SHARE)


def _decoder(diffusion: bool) -> str:
    return "diffusion" if diffusion else "codec"
