"""Whether the processes of `musicgen serve` still do anything: a process can hang, or be stopped, and not end."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from predictions.errors import StoreUnavailable
from predictions.models import announcements
from predictions.record.store import PredictionStore
from predictions.settings import Settings

PERIOD_SECONDS = 1.0
SILENCE_SECONDS = 30.0
"""How long a process that was once alive may give no sign of life."""
ANSWER_SECONDS = 5.0
"""How long the API and Redis may take to answer a check."""

Check = Callable[[int], bool]
"""Whether the process of this id gives a sign of life. Raises StoreUnavailable where nobody can tell at present."""


class Watch:
    """Checks a process until it ends, in a thread of its own, because a check may block.

    A process that has never given a sign of life is not judged: a worker may download its model for many minutes.
    """

    def __init__(self, process: subprocess.Popen[bytes], check: Check, silence_seconds: float) -> None:
        self.is_stuck = False
        """Whether it was alive once, and has now been silent for too long."""
        self._process = process
        self._check = check
        self._silence_seconds = silence_seconds
        threading.Thread(target=self._run, name="liveness", daemon=True).start()

    def _run(self) -> None:
        was_alive = False
        # Counted from the first check that fails, not from the last that succeeded: nothing is checked while
        # `musicgen serve` is itself suspended.
        silent_since: float | None = None
        while self._process.poll() is None:
            try:
                is_alive = self._check(self._process.pid)
            except StoreUnavailable:
                silent_since = None
            else:
                now = time.monotonic()
                was_alive = was_alive or is_alive
                silent_since = None if is_alive else silent_since or now
                self.is_stuck = was_alive and silent_since is not None and now - silent_since > self._silence_seconds
            time.sleep(PERIOD_SECONDS)


class SignsOfLife:
    """The checks of the service's processes."""

    def __init__(self, settings: Settings) -> None:
        self._address = (settings.host, settings.port)
        self._store = PredictionStore(settings.redis_url)
        # Without retries, which would take most of a minute where Redis hangs.
        self._redis: redis.Redis = redis.Redis.from_url(
            settings.redis_url, socket_timeout=ANSWER_SECONDS, retry=Retry(NoBackoff(), 0)
        )

    def of_redis(self, _process: int) -> bool:
        """Whether Redis answers."""
        try:
            self._redis.ping()
        except (RedisConnectionError, RedisTimeoutError):
            return False
        except ResponseError:
            # Where the disk is full it refuses even a ping, but it lives.
            return True
        return True

    def of_api(self, process: int) -> bool:
        """Whether the API answers at all. Where Redis does not, the API may only be waiting for it."""
        connection = HTTPConnection(*self._address, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/health-check")
            connection.getresponse()
        except (OSError, HTTPException) as error:
            if not self.of_redis(process):
                raise StoreUnavailable("Redis does not answer") from error
            return False
        finally:
            connection.close()
        return True

    def of_worker(self, process: int) -> bool:
        """Whether the worker's announcement holds. Its name ends in its process id (`worker.main`)."""
        deployment = self._store.run(announcements.deployment())
        return any(name.endswith(f":{process}") for state in deployment.values() for name in state.workers)
