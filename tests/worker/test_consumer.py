"""A consumer of messages that stalls: noticed, connected anew, and given up when that does not help."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from worker import consumer as module
from worker.consumer import StallDetector


class Clock:
    """The time that the consumer reads."""

    def __init__(self) -> None:
        self.now = 1000.0

    def pass_by(self, stall: StallDetector, seconds: float, waiting: int) -> None:
        """Let time pass; the consumer is told every second how many messages wait."""
        for _ in range(int(seconds)):
            self.now += 1
            stall.watch(waiting)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=time.sleep))
    return clock


@pytest.fixture
def reconnections(clock: Clock) -> list[float]:
    """When the connection was made anew."""
    return []


@pytest.fixture
def stall(clock: Clock, reconnections: list[float]) -> StallDetector:
    return StallDetector(lambda: reconnections.append(clock.now))


def test_a_quiet_queue_is_no_stall(stall: StallDetector, clock: Clock, reconnections: list[float]) -> None:
    clock.pass_by(stall, 300, waiting=0)
    assert not reconnections
    assert not stall.is_stuck


def test_a_stalled_consumer_connects_anew_and_is_given_up_in_the_end(
    stall: StallDetector, clock: Clock, reconnections: list[float]
) -> None:
    clock.pass_by(stall, module.STALL_SECONDS + 2, waiting=5)
    assert len(reconnections) == 1
    clock.pass_by(stall, 20, waiting=5)
    assert len(reconnections) == 2
    assert not stall.is_stuck
    clock.pass_by(stall, module.GIVE_UP_SECONDS, waiting=5)
    assert stall.is_stuck


def test_while_messages_are_heard_there_is_no_stall(
    stall: StallDetector, clock: Clock, reconnections: list[float]
) -> None:
    for _ in range(100):
        stall.hear()
        clock.pass_by(stall, 1, waiting=5)
    assert not reconnections


def test_the_time_without_redis_does_not_count(stall: StallDetector, clock: Clock, reconnections: list[float]) -> None:
    """Nobody can tell what waits: `watch` is not called."""
    stall.watch(5)
    clock.now += 500
    clock.pass_by(stall, 5, waiting=5)
    assert not reconnections
    assert not stall.is_stuck
