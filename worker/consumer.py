"""Celery's part of a worker: it hears the messages of one queue, and the signals that stop the worker.

A message is a hint, so it is taken without acknowledgement: nothing is written to Redis for it, which works when its
memory is full, and no message that a broken connection took along keeps others from being heard.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from celery import Celery
from celery.worker import state
from kombu.asynchronous import set_event_loop
from kombu.entity import Queue
from redis.exceptions import ConnectionError as RedisConnectionError

from predictions.settings import Settings
from worker.tasks import register

logger = logging.getLogger(__name__)

STALL_SECONDS = 10.0
"""Messages that wait for this long while none is heard: the connection is made anew."""
GIVE_UP_SECONDS = 60.0
"""As long as this, and making it anew has not helped."""
RESTART_SECONDS = 5.0


def create_celery(settings: Settings, queue: str) -> Celery:
    """Return a Celery application on the service's Redis that hears one queue."""
    # kombu's scheme for a Unix socket.
    broker = settings.redis_url.replace("unix://", "redis+socket://", 1)
    celery = Celery("musicgen", broker=broker, set_as_current=False)
    celery.conf.update(
        accept_content=["json"],
        # Not declared: that would write to Redis, and the queue is a list that exists when something is in it.
        task_queues=[Queue(queue, routing_key=queue, no_ack=True, no_declare=True)],  # type: ignore[no-untyped-call]
        task_ignore_result=True,
        worker_prefetch_multiplier=0,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_timeout": 30, "socket_keepalive": True, "health_check_interval": 25},
    )
    return celery


class StallDetector:
    """Notices that messages wait and none is heard. Two threads use it: one hears, the other watches."""

    def __init__(self, connect_anew: Callable[[], None]) -> None:
        self.is_stuck = False
        """Whether nothing has been heard for long, though the connection was made anew."""
        self._connect_anew = connect_anew
        self._heard = self._heard_before = 0
        self._watched_at = self._quiet_since = self._connected_at = 0.0

    @property
    def is_stalled(self) -> bool:
        """Whether messages have waited for long while none was heard."""
        return self._watched_at - self._quiet_since > STALL_SECONDS

    def hear(self) -> None:
        """A message was heard."""
        self._heard += 1

    def watch(self, waiting: int) -> None:
        """Judge by the number of messages that wait now. Called every second or so while Redis answers."""
        now, watched_at = time.monotonic(), self._watched_at
        self._watched_at = now
        if not waiting or self._heard != self._heard_before or now - watched_at > STALL_SECONDS:
            self._heard_before, self._quiet_since = self._heard, now
        elif now - self._quiet_since > GIVE_UP_SECONDS:
            self.is_stuck = True
        elif now - max(self._quiet_since, self._connected_at) > STALL_SECONDS:
            logger.warning("%d messages wait and none is heard: connecting anew", waiting)
            self._connected_at = now
            self._connect_anew()


class HintConsumer:
    """Hears a queue's messages and passes each on to `hear`. Runs in the main thread, which gets the signals."""

    def __init__(self, settings: Settings, queue: str, name: str, hear: Callable[[], None]) -> None:
        self.stall = StallDetector(self._connect_anew)
        self._settings = settings
        self._queue = queue
        self._name = name
        self._pass_on = hear
        self._celery = create_celery(settings, queue)
        register(self._celery, self._hear)
        self._worker: Celery.Worker | None = None

    def run(self) -> None:
        """Hear messages until SIGINT or SIGTERM; begins again where Celery gives up by itself."""
        while True:
            # Celery keeps these from one worker of a process to the next.
            state.should_stop = state.should_terminate = None
            set_event_loop(None)
            self._worker = self._celery.Worker(
                hostname=self._name,
                pool="solo",
                queues=[self._queue],
                loglevel=self._settings.log_level,
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
                quiet=True,
            )
            self._worker.start()
            if state.should_stop is not None or state.should_terminate is not None:
                return
            logger.error("The consumer of %s ended with status %s; it begins again", self._queue, self._worker.exitcode)
            time.sleep(RESTART_SECONDS)

    def _hear(self) -> None:
        self.stall.hear()
        self._pass_on()

    def _connect_anew(self) -> None:
        if self._worker is not None and self._worker.hub is not None:
            self._worker.hub.call_soon(_lose_connection)


def _lose_connection() -> None:
    """Raised in Celery's loop, this makes it connect anew, as after any broken connection."""
    raise RedisConnectionError("the consumer has stalled")
