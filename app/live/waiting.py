"""Wait for predictions to end: one subscription a process, however many requests wait.

Waiting is not following to the end: a feed reads and keeps every event of its prediction, where whoever waits needs the
last one alone. So a request that waits costs two reads of the record, and nothing in between but a look now and then.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress

from app.live.subscription import subscribe
from predictions.errors import StoreUnavailable
from predictions.record import commands
from predictions.record.prediction import Prediction
from predictions.record.schema import Channel
from predictions.record.store import AsyncPredictionStore

POLL_SECONDS = 2.0
"""How often whoever waits looks at the record itself: a published hint may be lost."""


class EndedListener:
    """Hears of predictions that end, and wakes whoever waits for them."""

    def __init__(self, store: AsyncPredictionStore) -> None:
        self._store = store
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def listen(self) -> None:
        """Hear of predictions that end until cancelled."""
        await subscribe(self._store, Channel.ENDED, self._wake, self._wake_all)

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    def _wake(self, message: str) -> None:
        _status, _, prediction_id = message.partition(" ")
        for event in self._waiting.get(prediction_id, ()):
            event.set()

    async def wait(self, prediction: Prediction, seconds: float) -> Prediction:
        """Return the prediction once it has ended, or as it stands after that many seconds."""
        deadline = asyncio.get_running_loop().time() + seconds
        event = asyncio.Event()
        self._waiting[prediction.id].add(event)
        try:
            while True:
                left = deadline - asyncio.get_running_loop().time()
                # Looked up after the event is in place: an end in between is not missed. The prediction was accepted:
                # while Redis is away, its client waits on, and at last gets what is known of it.
                with suppress(StoreUnavailable):
                    prediction = await self._store.run(commands.get(prediction.id), patience=max(left, 0.0))
                left = deadline - asyncio.get_running_loop().time()
                if prediction.status.is_terminal or left <= 0:
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, POLL_SECONDS)):
                        await event.wait()
                event.clear()
        finally:
            self._waiting[prediction.id].discard(event)
            if not self._waiting[prediction.id]:
                del self._waiting[prediction.id]
        return prediction
