"""The error of the estimated start and finish: twenty predictions at once, read when submitted and later."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Service, serve

TOGETHER = 20
EVERY_SECONDS = 1.0


@dataclass
class Reading:
    """An estimated time and the true one, in seconds from the moment of the reading."""

    estimated: float
    true: float

    @property
    def error(self) -> float:
        return abs(self.estimated - self.true)


def measure(rounds: int = 3) -> list[str]:
    """Measure the service with its default model, musicgen-pocket.

    Two predictions before the first round give it a throughput to start from.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serve(Path(folder) / "data") as service:
        for seconds in (2, 8):
            service.generate(prompt="piano", duration=seconds)
        found = [burst(service) for _ in range(rounds)]
    return [
        f"| {TOGETHER} predictions of 2 to 8 s at once | readings | median error | 90th percentile "
        "| median share | 90th percentile |",
        "|---|---|---|---|---|---|",
        *(
            row(f"round {number}, {name}", readings)
            for number, by_name in enumerate(found, 1)
            for name, readings in by_name.items()
        ),
    ]


def burst(service: Service) -> dict[str, list[Reading]]:
    """The readings of one round, by what was estimated and when."""
    readings: list[tuple[float, str, dict[str, Any]]] = []
    for n in range(TOGETHER):
        body = service.get(service.post(prompt=str(n), duration=2 + n % 7))
        readings.append((time.time(), "at submit", body))
    unfinished = [body["id"] for _, _, body in readings]
    ended: dict[str, dict[str, Any]] = {}
    while unfinished:
        time.sleep(EVERY_SECONDS)
        for body in [service.get(prediction_id) for prediction_id in unfinished]:
            if body["status"] == "succeeded":
                ended[body["id"]] = body
                unfinished.remove(body["id"])
            else:
                readings.append((time.time(), "later", body))
    found: dict[str, list[Reading]] = {}
    for moment, when, body in readings:
        truth, estimate = ended[body["id"]], body["estimate"]
        if body["status"] == "starting":
            reading = Reading(estimate["start_seconds"], seconds_after(moment, truth["started_at"]))
            found.setdefault(f"start, {when}", []).append(reading)
        reading = Reading(estimate["finish_seconds"], seconds_after(moment, truth["completed_at"]))
        found.setdefault(f"finish, {when}", []).append(reading)
    return found


def seconds_after(moment: float, time_of_record: str) -> float:
    return max(0.0, datetime.fromisoformat(time_of_record).timestamp() - moment)


def row(name: str, readings: list[Reading]) -> str:
    errors = sorted(reading.error for reading in readings)
    # A relative error of a very short wait says nothing.
    shares = sorted(reading.error / reading.true for reading in readings if reading.true > 0.5)
    return (
        f"| {name} | {len(readings)} | {statistics.median(errors):.2f} s | {ninetieth(errors):.2f} s "
        f"| {statistics.median(shares):.0%} | {ninetieth(shares):.0%} |"
    )


def ninetieth(values: list[float]) -> float:
    return values[int(len(values) * 0.9)]


if __name__ == "__main__":
    print("\n".join(measure()))
