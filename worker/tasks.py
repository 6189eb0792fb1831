"""The Celery tasks, by name. A message is a hint that there is work: its task is done when the message is heard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, Task

from predictions.record import schema


def register(celery: Celery, hear: Callable[[], None]) -> None:
    """Add the tasks. Each calls `hear` for each of its messages; the id in the message is for whoever reads it."""

    class Hint(Task):  # type: ignore[misc]
        """A task that is neither executed by a pool nor acknowledged, which would write to Redis."""

        abstract = True

        def start_strategy(self, *_: Any, **__: Any) -> Callable[..., None]:
            """Return what Celery calls with each message."""
            return lambda *_, **__: hear()

    def never_called(_: str) -> None:
        """Celery wants a function."""

    for name in schema.Task:
        celery.task(name=name, base=Hint)(never_called)
