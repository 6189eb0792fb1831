"""Run commands on Redis: `PredictionStore` blocks, `AsyncPredictionStore` awaits.

Both send a script's SHA-1 and, where Redis does not know it yet, its text, and the command's arguments as one JSON
object. Every failure to reach Redis, and its refusal to write when its memory is full, is a StoreUnavailable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from predictions.errors import StoreUnavailable
from predictions.record.command import Command
from predictions.record.scripts import script

T = TypeVar("T")

SOCKET_TIMEOUT_SECONDS = 10.0
MAX_CONNECTIONS = 32
"""The most connections of one API process, its two subscriptions included."""


@contextmanager
def _unavailable_not_broken() -> Iterator[None]:
    """Turn errors that pass with time into StoreUnavailable, and let errors that show a bug through."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError) as error:
        raise StoreUnavailable(f"Redis cannot be reached: {error}") from error
    except (OutOfMemoryError, ReadOnlyError) as error:
        raise StoreUnavailable(f"Redis refuses writes: {error}") from error
    except ResponseError as error:
        # The disk is full or broken, and Redis accepts nothing that it could not save.
        if "MISCONF" in str(error):
            raise StoreUnavailable(f"Redis refuses writes: {error}") from error
        raise


class PredictionStore:
    """Runs commands with a blocking client; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.redis: redis.Redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=SOCKET_TIMEOUT_SECONDS, health_check_interval=30
        )

    def run(self, command: Command[T]) -> T:
        """Perform the command; raises what its reader raises, or StoreUnavailable."""
        wanted, arguments = script(command.script), json.dumps(command.arguments)
        with _unavailable_not_broken():
            try:
                answer: Any = self.redis.evalsha(wanted.sha, 0, arguments)
            except NoScriptError:
                answer = self.redis.eval(wanted.text, 0, arguments)
        return command.read(answer)

    def subscription(self) -> PubSub:
        """A new pub/sub connection, to be used as a context manager."""
        pubsub: PubSub = self.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        return pubsub

    def is_reachable(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(self.redis.ping())
        except RedisError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self.redis.close()


class AsyncPredictionStore:
    """Runs commands with an asyncio client."""

    def __init__(self, url: str) -> None:
        # Requests that come all at once wait for a connection: Redis would refuse hundreds of new ones at once.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=SOCKET_TIMEOUT_SECONDS,
            decode_responses=True,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            health_check_interval=30,
        )
        self.redis: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)

    async def run(self, command: Command[T]) -> T:
        """Perform the command; raises what its reader raises, or StoreUnavailable."""
        wanted, arguments = script(command.script), json.dumps(command.arguments)
        with _unavailable_not_broken():
            try:
                answer: Any = await self.redis.evalsha(wanted.sha, 0, arguments)
            except NoScriptError:
                answer = await self.redis.eval(wanted.text, 0, arguments)
        return command.read(answer)

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
