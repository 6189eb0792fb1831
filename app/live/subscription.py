"""Hear what is published on a channel of Redis, for as long as the process runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redis.asyncio.client import PubSub

from predictions.record.store import AsyncPredictionStore

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.5
SILENCE_SECONDS = 5.0
"""After this long without a message the connection is tried; after as long again without an answer it is given up."""


async def subscribe(
    store: AsyncPredictionStore, channel: str, hear: Callable[[str], None], missed: Callable[[], None]
) -> None:
    """Pass each message of the channel to `hear` until cancelled; subscribes again when the connection breaks.

    What is published in between is lost: after each subscription `missed` is called, and whoever waits looks again.
    """
    is_broken = False
    while True:
        try:
            async with store.redis.pubsub() as pubsub:
                await pubsub.subscribe(channel)
                missed()
                is_broken = False
                await _hear(pubsub, hear)
        except Exception as error:
            if not is_broken:
                logger.warning("The subscription to %s broke, trying again until it holds: %s", channel, error)
            is_broken = True
        await asyncio.sleep(RECONNECT_SECONDS)


async def _hear(pubsub: PubSub, hear: Callable[[str], None]) -> None:
    """Listen until the connection breaks; one that died in silence is noticed because it answers no PING."""
    asked = False
    while True:
        message = await pubsub.get_message(timeout=SILENCE_SECONDS)
        if message is not None:
            asked = False
            if message["type"] == "message":
                hear(message["data"])
        elif asked:
            raise ConnectionError("no answer")
        else:
            await pubsub.ping()
            asked = True
