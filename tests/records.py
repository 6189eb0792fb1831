"""Predictions in the states that tests need, written by the service's own commands."""

from __future__ import annotations

from predictions.record import commands
from predictions.record.store import PredictionStore


def claim(store: PredictionStore, prediction_id: str, lease_seconds: float) -> int:
    """Claim a prediction; returns the number of the attempt, or 0 where the prediction could not be claimed."""
    claimed = store.run(commands.claim(prediction_id, lease_seconds))
    return claimed.attempt if claimed else 0
