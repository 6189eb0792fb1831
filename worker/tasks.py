"""The Celery tasks, by name. The work is done in `worker.generation.attempt` and `worker.webhooks`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery import Celery

from predictions.record.schema import Task

if TYPE_CHECKING:
    # A worker that only delivers webhooks has no torch.
    from worker.generation.attempt import Generator
    from worker.webhooks import WebhookSender


def register_generation(celery: Celery, generator: Generator) -> None:
    """Add the task that carries out a prediction."""

    @celery.task(name=Task.GENERATE)  # type: ignore[untyped-decorator]
    def generate(prediction_id: str) -> None:
        generator.generate(prediction_id)


def register_webhooks(celery: Celery, sender: WebhookSender) -> None:
    """Add the task that delivers a webhook."""

    @celery.task(name=Task.DELIVER_WEBHOOK)  # type: ignore[untyped-decorator]
    def deliver_webhook(delivery_id: str) -> None:
        sender.deliver(delivery_id)
