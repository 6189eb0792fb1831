"""The Celery tasks: names and nothing else. What they do is in `worker.generation.attempt` and `worker.webhooks`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery import Celery

from predictions.record.schema import Task

if TYPE_CHECKING:
    # A worker that only delivers webhooks has no torch.
    from worker.generation.attempt import Generator
    from worker.webhooks import Courier


def register_generation(celery: Celery, generator: Generator) -> None:
    """Let this worker generate."""

    @celery.task(name=Task.GENERATE)  # type: ignore[untyped-decorator]
    def generate(prediction_id: str) -> None:
        generator.run(prediction_id)


def register_webhooks(celery: Celery, courier: Courier) -> None:
    """Let this worker deliver webhooks."""

    @celery.task(name=Task.DELIVER_WEBHOOK)  # type: ignore[untyped-decorator]
    def deliver_webhook(delivery_id: str) -> None:
        courier.deliver(delivery_id)
