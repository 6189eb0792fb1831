"""Which of an owner's webhook secrets sign: they are numbered, and the store knows the numbers alone.

A secret follows from its owner, its number and what the service keeps secret (`predictions/webhooks/signing.py`), so
that the store holds nothing with which a webhook could be forged.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from predictions.record.command import Command, read_time

OVERLAP_SECONDS = 86_400.0
"""How long a secret that was replaced signs beside its successor."""


@dataclass(frozen=True)
class SecretState:
    """The numbers of an owner's secrets that sign: from `oldest` to `current`."""

    current: int = 0
    oldest: int = 0
    old_ones_until: datetime | None = None
    """When those before the current one stop to sign; None where there are none."""


def secret_state(owner: str) -> Command[SecretState]:
    """Which of the owner's secrets sign."""

    def read(answer: Any) -> SecretState:
        current, oldest, until = answer
        return SecretState(int(current), int(oldest), read_time(until) if until else None)

    return Command("webhooks/secret_state", {"owner": owner, "overlap_seconds": OVERLAP_SECONDS}, read)


def rotate_secret(owner: str, token: str) -> Command[bool]:
    """Replace the owner's current secret by the next one. `token`: random text, new for each rotation.

    The replaced one signs for a day longer. After another rotation within that day, so does the one before it, and no
    others.
    """
    return Command("webhooks/rotate_secret", {"owner": owner, "token": token, "overlap_seconds": OVERLAP_SECONDS}, bool)
