"""What a worker says of itself."""

from __future__ import annotations

import time
from typing import Any

import pytest

from worker.consumer import GIVE_UP_SECONDS, STALL_SECONDS, StallDetector
from worker.health import WorkerHealth
from worker.watchdog import Watchdog


def watched(**changed: Any) -> WorkerHealth:
    health = WorkerHealth()
    parts: dict[str, Any] = {
        "stuck": list,
        "announced_at": time.monotonic,
        "dispatcher_silent": lambda: 0.5,
        "consumer_stalled": lambda: False,
        "engine_busy": lambda: 0.5,
    }
    health.watch(**{**parts, **changed})
    return health


def test_a_worker_that_starts_is_live_and_not_ready() -> None:
    health = WorkerHealth()
    assert health.live() == {}
    assert list(health.ready()) == list(health.startup()) == ["start"]


def test_a_worker_that_works_is_ready() -> None:
    health = watched()
    assert health.live() == health.ready() == health.startup() == {}


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"engine_busy": lambda: 31.0}, "engine"),
        ({"dispatcher_silent": lambda: 31.0}, "dispatcher"),
        ({"consumer_stalled": lambda: True}, "message consumer"),
        ({"announced_at": lambda: time.monotonic() - 11}, "Redis"),
    ],
)
def test_a_part_that_has_come_to_a_halt_is_named(changed: dict[str, Any], part: str) -> None:
    health = watched(**changed)
    assert list(health.ready()) == [part]
    assert health.live() == health.startup() == {}


def test_a_part_beyond_help_is_neither_live_nor_ready() -> None:
    watchdog = Watchdog()
    watchdog.watch("engine", lambda: True)
    watchdog.watch("dispatcher", lambda: False)
    health = watched(stuck=watchdog.stuck)
    assert health.live() == {"engine": "is stuck"}
    assert health.ready() == {"engine": "is stuck"}


def test_a_consumer_that_hears_nothing_is_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("worker.consumer.time.monotonic", lambda: now)
    stall = StallDetector(lambda: None)
    stall.watch(1)
    assert not stall.is_stalled
    for _ in range(int(STALL_SECONDS) + 1):
        now += 1.0
        stall.watch(1)
    assert stall.is_stalled
    assert GIVE_UP_SECONDS > STALL_SECONDS
    assert not stall.is_stuck
    stall.watch(0)
    assert not stall.is_stalled
