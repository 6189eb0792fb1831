"""The Celery tasks, by name. A message is a hint that there is work: all that its task does is to pass the hint on."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from predictions.record.schema import Task


def register(celery: Celery, hear: Callable[[], None]) -> None:
    """Add the tasks. Each calls `hear`; its argument, the id that the message was sent for, is not needed."""

    @celery.task(name=Task.GENERATE)  # type: ignore[untyped-decorator]
    def generate(_prediction_id: str) -> None:
        hear()

    @celery.task(name=Task.DELIVER_WEBHOOK)  # type: ignore[untyped-decorator]
    def deliver_webhook(_delivery_id: str) -> None:
        hear()
