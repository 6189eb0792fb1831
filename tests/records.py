"""Predictions in the states that tests need, written by the service's own commands."""

from __future__ import annotations

from collections.abc import Mapping

from predictions.record import commands
from predictions.record.prediction import Prediction, new_id
from predictions.record.store import PredictionStore


def take(
    store: PredictionStore, prediction_id: str, lease_seconds: float, held: Mapping[str, str] | None = None
) -> Prediction | None:
    """Take the prediction that waits first, which has to be this one; None where there is none to take."""
    queue = store.run(commands.get(prediction_id)).queue
    taken = store.run(commands.take(queue, new_id(), lease_seconds, held))
    assert taken is None or taken.id == prediction_id
    return taken


def claim(store: PredictionStore, prediction_id: str, lease_seconds: float) -> str:
    """The same; returns the lease's token, or nothing."""
    taken = take(store, prediction_id, lease_seconds)
    return taken.lease_token if taken else ""
