"""Wait for a prediction to end, for `Prefer: wait`: one subscription a process, however many requests wait."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict

from predictions.errors import StoreUnavailable
from predictions.record import commands
from predictions.record.prediction import Prediction
from predictions.record.schema import Channel
from predictions.record.store import AsyncPredictionStore

logger = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 60.0
POLL_SECONDS = 2.0
RECONNECT_SECONDS = 1.0

_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*\"?(\d+)\"?)?(?:$|[,;\s])", re.IGNORECASE)


def wait_seconds(prefer: str | None) -> float:
    """Seconds that a `Prefer` header (RFC 7240) asks to wait: 0 without `wait`, 60 for a plain one or a longer one."""
    match = _PREFER_WAIT.search(prefer or "")
    if match is None:
        return 0.0
    return min(float(match[1]), MAX_WAIT_SECONDS) if match[1] else MAX_WAIT_SECONDS


class EndedListener:
    """Hears of predictions that end, and wakes whoever waits for them."""

    def __init__(self, store: AsyncPredictionStore) -> None:
        self._store = store
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def listen(self) -> None:
        """Run until cancelled; subscribes again when the connection breaks."""
        while True:
            try:
                async with self._store.redis.pubsub() as pubsub:
                    await pubsub.subscribe(Channel.ENDED)
                    async for message in pubsub.listen():
                        if message["type"] == "message":
                            self._wake(message["data"].partition(" ")[2])
            except Exception as error:
                # Nothing is lost: those who wait also look for themselves.
                logger.warning("Subscription to ended predictions broke, trying again: %s", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    def _wake(self, prediction_id: str) -> None:
        for event in self._waiting.get(prediction_id, ()):
            event.set()

    async def wait(self, prediction: Prediction, seconds: float) -> Prediction:
        """The prediction once it has ended, or as it stands after that many seconds."""
        deadline = asyncio.get_running_loop().time() + seconds
        event = asyncio.Event()
        self._waiting[prediction.id].add(event)
        try:
            while True:
                # Looked up after the event is in place: an end in between is not missed.
                prediction = await self._store.run(commands.get(prediction.id))
                left = deadline - asyncio.get_running_loop().time()
                if prediction.status.is_terminal or left <= 0:
                    break
                # The published hint may be lost, so look now and then without one.
                await _wait_for(event, min(left, POLL_SECONDS))
                event.clear()
        except StoreUnavailable:
            # The prediction was accepted: tell its client what is known of it.
            pass
        finally:
            self._waiting[prediction.id].discard(event)
            if not self._waiting[prediction.id]:
                del self._waiting[prediction.id]
        return prediction


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
