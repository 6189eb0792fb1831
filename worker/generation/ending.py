"""Write down how an attempt ended, also where Redis is away for a while: what has been made is not thrown away."""

from __future__ import annotations

import time
from threading import Event

from predictions.errors import StoreUnavailable
from predictions.record.command import Command
from predictions.record.store import PredictionStore

PATIENCE_SECONDS = 300.0


def finish(store: PredictionStore, command: Command[bool], stopping: Event) -> bool:
    """Write down an end; false where the lease is lost.

    Raises StoreUnavailable where Redis stays away for `PATIENCE_SECONDS`, or until the process is `stopping`.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return store.run(command)
        except StoreUnavailable:
            if stopping.is_set() or time.monotonic() > deadline:
                raise
