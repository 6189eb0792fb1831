"""The workers' signs of life: which serve a queue, with which model, and what waits and runs there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from predictions.models.card import ModelCard
from predictions.record.command import Command


@dataclass(frozen=True)
class QueueState:
    """What serves a queue's model right now."""

    card: ModelCard | None = None
    """What its workers announced last; none where none ever has."""
    workers: tuple[str, ...] = ()
    """The names of those that are alive."""
    queued: int = 0
    running: int = 0


def announce(worker: str, model: ModelCard, alive_seconds: float, *, queue: str) -> Command[bool]:
    """A worker's sign of life, with the queue it takes from and the model it serves."""
    return Command(
        "models/announce",
        {"worker": worker, "queue": queue, "card": model.model_dump_json(), "alive_seconds": alive_seconds},
        bool,
    )


def withdraw(worker: str, *, queue: str) -> Command[bool]:
    """A worker's farewell."""
    return Command("models/withdraw", {"worker": worker, "queue": queue}, bool)


def deployment() -> Command[dict[str, QueueState]]:
    """Of each queue that generates: which model is served, by which workers, and what waits."""

    def read(answer: Any) -> dict[str, QueueState]:
        return {
            queue: QueueState(ModelCard.model_validate_json(card) if card else None, tuple(workers), queued, running)
            for queue, card, workers, queued, running in answer
        }

    return Command("models/deployment", {}, read)
