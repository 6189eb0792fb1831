"""The Celery application. Its messages are hints; what is to be done is recorded in the prediction store."""

from __future__ import annotations

from celery import Celery

from predictions.settings import Settings


def create_celery(settings: Settings) -> Celery:
    """Return Celery on the service's Redis, configured so that a lost, late or repeated message does no harm.

    Messages are acknowledged after their task, and a worker reserves no more than it has threads for. A message that is
    delivered twice finds its prediction claimed or ended; housekeeping replaces one that was lost.
    """
    # kombu's scheme for a Unix socket.
    broker = settings.redis_url.replace("unix://", "redis+socket://", 1)
    celery = Celery("musicgen", broker=broker, set_as_current=False)
    celery.conf.update(
        accept_content=["json"],
        task_acks_late=True,
        task_ignore_result=True,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": 30,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
    )
    return celery
