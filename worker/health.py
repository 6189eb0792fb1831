"""Whether a worker does its work: what its port of metrics answers below /health.

**Live** is a worker of which no part is stuck; one that is not is ended by its own watchdog, or by whoever started it.
**Ready** is a worker that takes work and does it: it has announced itself lately, its dispatcher looks for work, the
messages that wait are heard, and its engine is not held up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from worker.housekeeping import ANNOUNCEMENT_SECONDS

ENGINE_HELD_UP_SECONDS = 30.0
"""A step or task of the engine that takes this long is no ordinary one."""
DISPATCHER_SILENT_SECONDS = 30.0
"""The dispatcher looks every second, and waits a few seconds for a Redis that does not answer."""


class WorkerHealth:
    """Knows the parts of a worker as they are put together; before that, it is live and not ready."""

    def __init__(self) -> None:
        self._stuck: Callable[[], list[str]] = list
        self._announced_at: Callable[[], float | None] = lambda: None
        self._parts: list[tuple[str, Callable[[], bool], str]] = []

    def watch(
        self,
        stuck: Callable[[], list[str]],
        announced_at: Callable[[], float | None],
        dispatcher_silent: Callable[[], float],
        consumer_stalled: Callable[[], bool],
        engine_busy: Callable[[], float],
    ) -> None:
        """Begin to judge.

        `stuck`: names of parts that are beyond help. `announced_at`: when the worker last announced itself, by
        `time.monotonic`. `dispatcher_silent`, `engine_busy`: for how many seconds they have not come back.
        """
        self._stuck, self._announced_at = stuck, announced_at
        self._parts = [
            ("dispatcher", lambda: dispatcher_silent() > DISPATCHER_SILENT_SECONDS, "has not looked for work lately"),
            ("message consumer", consumer_stalled, "messages wait and none is heard"),
            ("engine", lambda: engine_busy() > ENGINE_HELD_UP_SECONDS, "has work and has made no step lately"),
        ]

    def live(self) -> Mapping[str, str]:
        """Say which parts are stuck."""
        return dict.fromkeys(self._stuck(), "is stuck")

    def ready(self) -> Mapping[str, str]:
        """Say what keeps it from its work."""
        wrong = {name: why for name, is_wrong, why in self._parts if is_wrong()}
        announced_at = self._announced_at()
        if announced_at is None:
            wrong["start"] = "has not announced itself yet: it loads its model, or waits for Redis"
        elif time.monotonic() - announced_at > ANNOUNCEMENT_SECONDS:
            wrong["Redis"] = "has not taken an announcement lately"
        return {**wrong, **self.live()}

    def startup(self) -> Mapping[str, str]:
        """Say that it has not started yet."""
        return {} if self._announced_at() is not None else {"start": "has not announced itself yet"}
