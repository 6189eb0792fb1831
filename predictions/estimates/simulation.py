"""When predictions will start and finish: a queue played forward.

Requests are decoded together: a step takes the longer the more share it, and takes all of them one step further. So one
clock that counts steps puts their ends in order, and another one turns steps into seconds. What is left of a
prediction beside its decoding (its tokens become sound, are levelled and stored) comes afterwards; what of it holds up
the steps of others is in the steps' measured time.

Knows neither Redis nor records: work comes in, seconds come out.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count


@dataclass(frozen=True)
class Work:
    """What is left to do of a prediction."""

    id: str
    steps: float
    """Decoding steps; 0 where its tokens are there."""
    beside: float
    """Seconds beside decoding."""


@dataclass(frozen=True)
class Estimate:
    """Seconds from now until a worker takes a prediction, 0 where one has, and until it has succeeded."""

    start_seconds: float
    finish_seconds: float

    def after(self, seconds: float) -> Estimate:
        """What is left of it so many seconds later; never less than nothing."""
        return Estimate(max(0.0, self.start_seconds - seconds), max(0.0, self.finish_seconds - seconds))


def estimate_all(
    running: Sequence[Work],
    waiting: Sequence[Work],
    *,
    slots: int,
    threads: int,
    step_seconds: Callable[[int], float],
) -> dict[str, Estimate]:
    """By id, given what runs (in the order in which it began) and what waits (the next one first).

    slots: how many are decoded together; threads: how many are held by workers at a time, those included that are in
    line for a slot or become sound; at least 1 each. step_seconds: of one step, by how many share it.
    """
    play, queue = _Play(slots, step_seconds), deque(waiting)
    for work in running:
        play.take(work)
    while queue or play.held:
        while queue and play.held < threads:
            play.take(queue.popleft())
        play.go_on()
    return {id: Estimate(start, play.finishes[id]) for id, start in play.starts.items()}


def beyond(known: Sequence[Estimate], position: int) -> Estimate | None:
    """The estimate for a place in the queue behind those that are known, the next one first: as if it went on as it
    does in the farther half of them.

    None where none is known.
    """
    if not known:
        return None
    middle, last = known[(len(known) - 1) // 2], known[-1]
    spacing = (last.start_seconds - middle.start_seconds) / max(1, len(known) // 2)
    further = (position - len(known) + 1) * spacing
    return Estimate(last.start_seconds + further, last.finish_seconds + further)


@dataclass
class _Play:
    """The state at one moment. Heaps are ordered by time, then by when something entered them."""

    slots: int
    step_seconds: Callable[[int], float]
    now: float = 0.0
    """Seconds."""
    clock: float = 0.0
    """Steps that whoever is decoded all the time has made."""
    held: int = 0
    starts: dict[str, float] = field(default_factory=dict)
    finishes: dict[str, float] = field(default_factory=dict)
    _line: deque[Work] = field(default_factory=deque)
    _decoding: list[tuple[float, int, Work]] = field(default_factory=list)
    """By the clock at which each is decoded."""
    _beside: list[tuple[float, int, str]] = field(default_factory=list)
    """By the second at which each has finished."""
    _entered: count[int] = field(default_factory=count)

    def take(self, work: Work) -> None:
        """A worker takes it, now."""
        self.starts[work.id] = self.now
        self.held += 1
        if work.steps > 0:
            self._line.append(work)
        else:
            self._decoded(work)

    def go_on(self) -> None:
        """To the next moment at which something is decoded, or has finished."""
        while self._line and len(self._decoding) < self.slots:
            work = self._line.popleft()
            heapq.heappush(self._decoding, (self.clock + work.steps, next(self._entered), work))
        step = self.step_seconds(len(self._decoding)) if self._decoding else 0.0
        decoded = self.now + (self._decoding[0][0] - self.clock) * step if self._decoding else math.inf
        if self._beside and self._beside[0][0] < decoded:
            finished, _, id = heapq.heappop(self._beside)
            if self._decoding:
                self.clock += (finished - self.now) / step
            self.now = self.finishes[id] = finished
            self.held -= 1
        else:
            self.clock, _, work = heapq.heappop(self._decoding)
            self.now = decoded
            self._decoded(work)

    def _decoded(self, work: Work) -> None:
        heapq.heappush(self._beside, (self.now + work.beside, next(self._entered), work.id))
