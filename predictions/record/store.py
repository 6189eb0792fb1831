"""Run commands on Redis: `PredictionStore` blocks, `AsyncPredictionStore` awaits.

Both send a script's SHA-1 and, where Redis does not know it yet, its text, and the command's arguments as one JSON
object.

A connection can break after Redis has executed a command and before its answer has arrived. Every command can therefore
be repeated: a repetition finds its own work done and gives the same answer. Both stores repeat a command for a while
before they raise StoreUnavailable.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from predictions.errors import StoreFull, StoreUnavailable
from predictions.record.command import Command
from predictions.record.scripts import script

T = TypeVar("T")

SOCKET_TIMEOUT_SECONDS, PATIENCE_SECONDS = 5.0, 10.0
"""How long one answer may take, and for how long a command is repeated, unless the caller says otherwise."""
API_SOCKET_TIMEOUT_SECONDS, API_PATIENCE_SECONDS = 2.0, 4.0
"""The same in the API, whose clients often wait for five seconds and no longer."""
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 0.02, 1.0
MAX_CONNECTIONS = 32
"""The most connections of one API process, its two subscriptions included."""
REFUSALS = ("MISCONF", "NOREPLICAS")
"""How the answers begin with which Redis refuses writes that it could not save as it was told to."""


class Observer(Protocol):
    """What hears of every command that was sent."""

    def __call__(self, command: str, seconds: float, *, failed: bool) -> None:
        """Hear how long it took, and whether it `failed`: no answer came, or a refusal."""


def _ignore(command: str, seconds: float, *, failed: bool) -> None:
    """Observe nothing."""


@contextmanager
def _unavailable_not_broken() -> Iterator[None]:
    """Turn errors that pass with time into StoreUnavailable, and let errors that show a bug through."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise StoreUnavailable(f"Redis cannot be reached: {error}") from error
    except (OutOfMemoryError, ReadOnlyError) as error:
        raise StoreFull(f"Redis refuses writes: {error}") from error
    except ResponseError as error:
        if str(error).startswith(REFUSALS):
            raise StoreFull(f"Redis refuses writes: {error}") from error
        raise
    except RuntimeError as error:
        # uvloop's answer to whoever writes to a connection that it has closed.
        if "closed" in str(error):
            raise StoreUnavailable(f"Redis cannot be reached: {error}") from error
        raise


def _delays(patience: float) -> Iterator[float]:
    """The pauses before each repetition, in seconds, until the patience is used up."""
    deadline, delay = time.monotonic() + patience, FIRST_DELAY_SECONDS
    while time.monotonic() + delay <= deadline:
        yield delay
        delay = min(2 * delay, MAX_DELAY_SECONDS)


class PredictionStore:
    """Runs commands with a blocking client; safe to share between threads."""

    def __init__(self, url: str, observe: Observer = _ignore) -> None:
        self._observe = observe
        self.redis: redis.Redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            health_check_interval=30,
            retry=Retry(NoBackoff(), 0),
        )

    def run(self, command: Command[T], *, patience: float = PATIENCE_SECONDS) -> T:
        """Perform the command; raises what its reader raises, or StoreUnavailable after `patience` seconds.

        A refusal to write is waited for too: whoever has accepted work does not drop it because a disk is full.
        """
        delays = _delays(patience)
        while True:
            try:
                return command.read(self._evaluate(command))
            except StoreUnavailable:
                if (delay := next(delays, None)) is None:
                    raise
            # What broke this connection has most likely broken those that lie idle.
            self.redis.connection_pool.disconnect(inuse_connections=False)
            time.sleep(delay)

    def _evaluate(self, command: Command[T]) -> Any:
        wanted, arguments = script(command.script), json.dumps(command.arguments)
        began, failed = time.perf_counter(), True
        try:
            with _unavailable_not_broken():
                try:
                    answer = self.redis.evalsha(wanted.sha, 0, arguments)
                except NoScriptError:
                    answer = self.redis.eval(wanted.text, 0, arguments)
            failed = False
            return answer
        finally:
            self._observe(command.script, time.perf_counter() - began, failed=failed)

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

    def __init__(self, url: str, observe: Observer = _ignore) -> None:
        self._observe = observe
        # Requests that come all at once wait for a connection: Redis would refuse hundreds of new ones at once.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=API_SOCKET_TIMEOUT_SECONDS,
            decode_responses=True,
            socket_timeout=API_SOCKET_TIMEOUT_SECONDS,
            health_check_interval=30,
            retry=AsyncRetry(NoBackoff(), 0),
        )
        self.redis: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)

    async def run(self, command: Command[T], *, patience: float = API_PATIENCE_SECONDS) -> T:
        """Perform the command; raises what its reader raises, StoreFull, or StoreUnavailable after `patience` seconds.

        A refusal to write is the caller's to tell: its client can wait better than its request can.
        """
        delays = _delays(patience)
        while True:
            try:
                return command.read(await self._evaluate(command))
            except StoreFull:
                raise
            except StoreUnavailable:
                if (delay := next(delays, None)) is None:
                    raise
            # What broke this connection has most likely broken those that lie idle.
            with suppress(RedisError, OSError, RuntimeError):
                await self.redis.connection_pool.disconnect(inuse_connections=False)
            await asyncio.sleep(delay)

    async def _evaluate(self, command: Command[T]) -> Any:
        wanted, arguments = script(command.script), json.dumps(command.arguments)
        began, failed = time.perf_counter(), True
        try:
            with _unavailable_not_broken():
                try:
                    answer = await self.redis.evalsha(wanted.sha, 0, arguments)
                except NoScriptError:
                    answer = await self.redis.eval(wanted.text, 0, arguments)
            failed = False
            return answer
        finally:
            self._observe(command.script, time.perf_counter() - began, failed=failed)

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
