"""Hear what is published on a channel of Redis, for as long as the process runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from predictions.record.store import AsyncPredictionStore

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0


async def subscribe(store: AsyncPredictionStore, channel: str, hear: Callable[[str], None]) -> None:
    """Pass each message of the channel to `hear` until cancelled; subscribes again when the connection breaks.

    What is published in between is lost: messages are hints, and whoever waits for one also looks for itself.
    """
    while True:
        try:
            async with store.redis.pubsub() as pubsub:
                await pubsub.subscribe(channel)
                async for message in pubsub.listen():
                    if message["type"] == "message":
                        hear(message["data"])
        except Exception as error:
            logger.warning("The subscription to %s broke, trying again: %s", channel, error)
        await asyncio.sleep(RECONNECT_SECONDS)
