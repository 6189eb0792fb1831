"""The whole of `musicgen serve`: start, memory, time from POST to the first decoding step, many predictions at once."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.machine import resident_mb
from tests.e2e.conftest import Service, serve

PREDICTIONS = 30
TOGETHER = 20


def measure() -> list[str]:
    """Measure the service with its default model, musicgen-pocket."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data = Path(folder) / "data"
        lines = [f"READY after {ready_seconds(data):.1f} s at the first start"]
        began = time.perf_counter()
        with serve(data) as service:
            lines.append(f"READY after {time.perf_counter() - began:.1f} s at the next one")
            memory = {name: resident_mb(service.pid(name)) for name in ("redis", "api", "worker", "webhooks")}
            lines.append("resident: " + ", ".join(f"{name} {mb:.0f} MB" for name, mb in memory.items()))
            lines.append(first_step(service))
            lines.append(together(service))
    return lines


def ready_seconds(data: Path) -> float:
    began = time.perf_counter()
    with serve(data):
        return time.perf_counter() - began


def first_step(service: Service) -> str:
    """One prediction after the other on an idle service; their records say how long each waited."""
    waits = [service.generate(prompt="piano", duration=1)["metrics"]["queue_time"] for _ in range(PREDICTIONS)]
    waits.sort()
    return (
        f"POST to first decoding step, idle, {PREDICTIONS} predictions: "
        f"p50 {statistics.median(waits) * 1000:.1f} ms, p90 {waits[int(PREDICTIONS * 0.9)] * 1000:.1f} ms"
    )


def together(service: Service) -> str:
    """Twenty predictions of different lengths at once, beside one of the mean length."""
    durations = [2 + n % 7 for n in range(TOGETHER)]
    mean = round(statistics.mean(durations))
    began = time.perf_counter()
    service.generate(prompt="piano", duration=mean)
    one = time.perf_counter() - began
    began = time.perf_counter()
    for prediction_id in [service.post(prompt=str(n), duration=seconds) for n, seconds in enumerate(durations)]:
        service.wait(prediction_id)
    many = time.perf_counter() - began
    return (
        f"one prediction of {mean} s: {one:.2f} s; {TOGETHER} of {mean} s on average at once: {many:.2f} s, "
        f"{many / one:.1f} times as long"
    )


if __name__ == "__main__":
    print("\n".join(measure()))
