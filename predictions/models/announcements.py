"""Workers' signs of life: which workers serve a queue, with which model, and what waits and runs there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from predictions.models.card import Announcement, ModelCard
from predictions.record.command import Arguments, Command


@dataclass(frozen=True)
class QueueState:
    """What serves a queue's model right now."""

    card: ModelCard | None = None
    """The card that its workers announced last; None where none ever has."""
    workers: tuple[str, ...] = ()
    """The names of the live workers."""
    queued: int = 0
    running: int = 0


def announce(worker: str, announcement: Announcement | None, alive_seconds: float, *, queue: str) -> Command[bool]:
    """Announce that a worker takes from a queue; valid for `alive_seconds`. One that delivers webhooks has no model."""
    arguments: Arguments = {
        "worker": worker,
        "queue": queue,
        "announcement": announcement.model_dump_json() if announcement else "",
        "alive_seconds": alive_seconds,
    }
    return Command("models/announce", arguments, bool)


def withdraw(worker: str, *, queue: str) -> Command[bool]:
    """Withdraw a worker's announcement."""
    return Command("models/withdraw", {"worker": worker, "queue": queue}, bool)


def deployment() -> Command[dict[str, QueueState]]:
    """The state of every queue, by its name."""

    def read(answer: Any) -> dict[str, QueueState]:
        return {
            queue: QueueState(ModelCard.model_validate_json(card) if card else None, tuple(workers), queued, running)
            for queue, card, workers, queued, running in answer
        }

    return Command("models/deployment", {}, read)
