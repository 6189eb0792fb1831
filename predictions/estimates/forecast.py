"""Estimates for all predictions of a queue, from what runs and waits there and how fast its workers were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from predictions.estimates.simulation import Estimate, Work, estimate_all, extrapolate
from predictions.estimates.throughput import Throughput
from predictions.models.card import Announcement
from predictions.record.command import Command, pairs
from predictions.record.prediction import Prediction

MOST_WAITING = 64
"""How many of those that wait are simulated; the estimates for the others are extrapolated."""
BEGUN_SHARE = 0.5
"""The part that is left of the work after decoding, where it began at an unknown moment."""


@dataclass(frozen=True)
class Forecast:
    """The estimates for a queue, as it stood at one moment."""

    estimates: Mapping[str, Estimate]
    """By id."""
    waiting: tuple[Estimate, ...] = ()
    """Those of the predictions that wait, the next one first."""
    read_at: float = 0.0
    """When that was, in seconds since 1970 by Redis' clock."""
    is_known: bool = True
    """False where there is no live worker, or nothing has been measured."""

    def of(self, prediction: Prediction) -> Estimate | None:
        """The estimate for one of the queue's predictions; None where nothing is known."""
        if prediction.id in self.estimates or prediction.queue_position is None:
            return self.estimates.get(prediction.id)
        return extrapolate(self.waiting, prediction.queue_position)


UNKNOWN = Forecast({}, is_known=False)


def forecast_queue(queue: str) -> Command[Forecast]:
    """Estimates for what runs and waits in a queue; UNKNOWN without a live worker or a measurement."""
    return Command("estimates/workload", {"queue": queue, "max_waiting": MOST_WAITING}, _read_forecast)


def _read_forecast(answer: Any) -> Forecast:
    now, workers, announcement, flat, running, waiting = answer
    throughput = Throughput({name: float(seconds) for name, seconds in pairs(flat)})
    if not workers or not throughput.is_known:
        return UNKNOWN
    model = Announcement.model_validate_json(announcement)
    # Those without progress wait for a slot, behind those with it.
    running = sorted(running, key=lambda item: (not item[3], float(item[4])))
    estimates = estimate_all(
        [_work(throughput, model, *item[:4]) for item in running],
        [_work(throughput, model, *item[:4]) for item in waiting],
        slots=workers * model.concurrency,
        threads=workers * model.threads,
        step_seconds=lambda together: throughput.step_seconds(together / workers),
    )
    return Forecast(estimates, tuple(estimates[item[0]] for item in waiting), float(now))


def _work(throughput: Throughput, model: Announcement, id: str, seconds: int, diffusion: int, progress: str) -> Work:
    steps, other = model.decoding_steps(seconds), seconds * throughput.other_seconds(bool(diffusion))
    if progress:
        done, total = json.loads(progress)
        # The total counts the steps of a diffusion too, and knows how much of a continuation is new.
        steps = max(0.0, min(steps, total) - done)
    return Work(id, steps, other if steps else other * BEGUN_SHARE)
