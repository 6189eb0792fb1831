"""When predictions will start and finish: a simulation of the queue.

Requests are decoded together. A step advances all of them, and takes longer the more requests share it. So a clock that
counts steps orders the ends of their decoding, and a second one counts seconds. A prediction's other work (its tokens
become audio, which is normalized and stored) follows its decoding. Where such work delays the steps of other requests,
the measured time of a step includes the delay.

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
    """The work that is left on a prediction."""

    id: str
    steps: float
    """Decoding steps; 0 where all tokens are decoded."""
    other: float
    """Seconds of work after decoding."""


@dataclass(frozen=True)
class Estimate:
    """When one prediction will start and finish."""

    start_seconds: float
    """Seconds from now until a worker takes it; 0 where one has."""
    finish_seconds: float
    """Seconds from now until it has succeeded."""

    def after(self, seconds: float) -> Estimate:
        """The same estimate, this many seconds later; never negative."""
        return Estimate(max(0.0, self.start_seconds - seconds), max(0.0, self.finish_seconds - seconds))


def estimate_all(
    running: Sequence[Work],
    waiting: Sequence[Work],
    *,
    slots: int,
    threads: int,
    step_seconds: Callable[[int], float],
) -> dict[str, Estimate]:
    """Estimates by id, given what runs (in the order of its start) and what waits (the next one first).

    `slots`, at least 1, is how many predictions are decoded together. `threads`, at least 1, is how many the workers
    hold at a time, including those that wait for a slot or are past decoding. `step_seconds` is the time of one step,
    by the number of requests that share it.
    """
    simulation, queue = _Simulation(slots, step_seconds), deque(waiting)
    for work in running:
        simulation.start(work)
    while queue or simulation.held:
        while queue and simulation.held < threads:
            simulation.start(queue.popleft())
        simulation.advance()
    return {id: Estimate(start, simulation.finishes[id]) for id, start in simulation.starts.items()}


def extrapolate(known: Sequence[Estimate], position: int) -> Estimate | None:
    """The estimate for a place in the queue behind the known ones (the next one first), or None where none is known.

    The spacing of the farther half of the known estimates is taken to continue.
    """
    if not known:
        return None
    middle, last = known[(len(known) - 1) // 2], known[-1]
    spacing = (last.start_seconds - middle.start_seconds) / max(1, len(known) // 2)
    further = (position - len(known) + 1) * spacing
    return Estimate(last.start_seconds + further, last.finish_seconds + further)


@dataclass
class _Simulation:
    """The state at one moment. Heaps are ordered by time, then by order of entry."""

    slots: int
    step_seconds: Callable[[int], float]
    now: float = 0.0
    """Seconds."""
    clock: float = 0.0
    """Decoding steps so far, of a request that is decoded all the time."""
    held: int = 0
    """Predictions that workers hold."""
    starts: dict[str, float] = field(default_factory=dict)
    finishes: dict[str, float] = field(default_factory=dict)
    _pending: deque[Work] = field(default_factory=deque)
    """Held, but without a slot."""
    _decoding: list[tuple[float, int, Work]] = field(default_factory=list)
    """With the clock at which each has been decoded."""
    _finishing: list[tuple[float, int, str]] = field(default_factory=list)
    """With the second at which each has finished."""
    _entered: count[int] = field(default_factory=count)

    def start(self, work: Work) -> None:
        """Let a worker take the prediction now."""
        self.starts[work.id] = self.now
        self.held += 1
        if work.steps > 0:
            self._pending.append(work)
        else:
            self._decoded(work)

    def advance(self) -> None:
        """Go to the next moment at which a prediction has been decoded or has finished."""
        while self._pending and len(self._decoding) < self.slots:
            work = self._pending.popleft()
            heapq.heappush(self._decoding, (self.clock + work.steps, next(self._entered), work))
        step = self.step_seconds(len(self._decoding)) if self._decoding else 0.0
        decoded = self.now + (self._decoding[0][0] - self.clock) * step if self._decoding else math.inf
        if self._finishing and self._finishing[0][0] < decoded:
            finished, _, id = heapq.heappop(self._finishing)
            if self._decoding:
                self.clock += (finished - self.now) / step
            self.now = self.finishes[id] = finished
            self.held -= 1
        else:
            self.clock, _, work = heapq.heappop(self._decoding)
            self.now = decoded
            self._decoded(work)

    def _decoded(self, work: Work) -> None:
        heapq.heappush(self._finishing, (self.now + work.other, next(self._entered), work.id))
