"""Whether this process can accept predictions now. Knows nothing of HTTP."""

from __future__ import annotations

import time

from predictions.errors import StoreUnavailable
from predictions.observability import queues
from predictions.record.store import AsyncPredictionStore

MAX_AGE_SECONDS = 1.0
"""Redis is asked once in this time, however many ask here."""


class Readiness:
    """Asks Redis to write something, which is what accepting a prediction needs."""

    def __init__(self, store: AsyncPredictionStore) -> None:
        self._store = store
        self._wrong: dict[str, str] = {}
        self._asked_at = float("-inf")
        self.was_ready = False
        """Whether it has been ready since the process was started."""

    async def wrong(self) -> dict[str, str]:
        """Say what is wrong, by part; nothing where all is well."""
        if time.monotonic() - self._asked_at >= MAX_AGE_SECONDS:
            self._asked_at = time.monotonic()
            self._wrong = await self._ask()
            self.was_ready = self.was_ready or not self._wrong
        return self._wrong

    async def _ask(self) -> dict[str, str]:
        try:
            await self._store.run(queues.probe(), patience=0.0)
        except StoreUnavailable as error:
            return queues.why_not_written(error)
        return {}
