"""Records as tests need them, written by the commands that the service uses."""

from __future__ import annotations

from predictions.record import commands
from predictions.record.store import PredictionStore


def claim(store: PredictionStore, prediction_id: str, lease_seconds: float) -> int:
    """Claim a prediction; the attempt, or 0 where there was nothing to take."""
    claimed = store.run(commands.claim(prediction_id, lease_seconds))
    return claimed.attempt if claimed else 0
