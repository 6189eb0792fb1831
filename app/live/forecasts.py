"""Estimate when predictions will start and finish, from one forecast a queue that is read now and then.

Clients that poll are answered from the last forecast. It is read again when it is a second old or does not know the
prediction yet, so a queue costs the same whether one client polls or a thousand.
"""

from __future__ import annotations

import asyncio
import logging
import time

from predictions.errors import StoreUnavailable
from predictions.estimates.forecast import MOST_WAITING, UNKNOWN, Forecast, forecast_queue
from predictions.estimates.simulation import Estimate
from predictions.record.prediction import Prediction
from predictions.record.store import AsyncPredictionStore

logger = logging.getLogger(__name__)

MAX_AGE_SECONDS = 1.0
ACCEPTING_AGE_SECONDS = 0.1
"""Where many predictions are accepted, none of which the forecast knows, it is read no more often than this."""


class Forecasts:
    """The forecasts of an API process."""

    def __init__(self, store: AsyncPredictionStore) -> None:
        self._store = store
        self._known: dict[str, tuple[float, Forecast]] = {}
        """By queue, with the time at which it was read."""
        self._reading = asyncio.Lock()

    async def of(self, prediction: Prediction, *, just_accepted: bool = False) -> Estimate | None:
        """Return its estimate; None where it has ended, nothing is known, or too many are accepted to read at once."""
        if prediction.status.is_terminal:
            return None
        unknown_age = ACCEPTING_AGE_SECONDS if just_accepted else 0.0
        if self._is_stale(prediction, unknown_age):
            async with self._reading:
                # Somebody else may have read it in the meantime.
                if self._is_stale(prediction, unknown_age):
                    await self._read(prediction.queue)
        read_at, forecast = self._known[prediction.queue]
        estimate = forecast.of(prediction)
        return estimate and estimate.after(time.monotonic() - read_at)

    def _is_stale(self, prediction: Prediction, unknown_age: float) -> bool:
        read_at, forecast = self._known.get(prediction.queue, (float("-inf"), UNKNOWN))
        age = time.monotonic() - read_at
        # No forecast reaches those that wait far behind.
        is_near = (prediction.queue_position or 0) < MOST_WAITING
        is_unknown = prediction.id not in forecast.estimates and is_near and forecast.is_known
        # What the forecast could have known and does not waits for something else than its turn.
        is_unknown = is_unknown and prediction.created_at.timestamp() > forecast.read_at
        return age > (unknown_age if is_unknown else MAX_AGE_SECONDS)

    async def _read(self, queue: str) -> None:
        try:
            forecast = await self._store.run(forecast_queue(queue))
        except StoreUnavailable as error:
            # The prediction itself has been accepted or read: its client gets it without an estimate.
            logger.warning("No estimates for %s: %s", queue, error)
            forecast = UNKNOWN
        self._known[queue] = (time.monotonic(), forecast)
