"""What the use cases work with, built once a process by `app.main`. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from app.live.followers import Followers
from app.live.forecasts import Forecasts
from app.live.waiting import EndedListener
from app.rates import Rates
from app.readiness import Readiness
from app.retries.lost_answers import LostAnswers
from app.tokens import Tokens
from predictions.models import announcements
from predictions.models.announcements import QueueState
from predictions.models.registry import Registry
from predictions.models.served import ServedModel, model_for, model_named, served_models
from predictions.record.schema import Queue
from predictions.record.store import AsyncPredictionStore
from predictions.settings import Settings
from predictions.storage.protocol import AudioStorage
from predictions.webhooks.signing import SigningKeys

MODELS_MAX_AGE_SECONDS = 1.0
LARGE_FILES = 8
"""How many uploaded files are in memory at once, on their way to storage; the others wait on disk."""


class ServedModels:
    """The registry's models with what their workers announced, read again when that is older than a second.

    Every route that names a model, its versions or its abilities reads them from here.
    """

    def __init__(self, store: AsyncPredictionStore, registry: Registry) -> None:
        self._store, self._registry = store, registry
        self._models: tuple[ServedModel, ...] = ()
        self.webhook_workers = 0
        """How many workers deliver webhooks, as of the last reading."""
        self._read_at = float("-inf")
        self._incomplete = True

    async def all(self) -> tuple[ServedModel, ...]:
        """Return all models, in the registry's order."""
        if time.monotonic() - self._read_at >= MODELS_MAX_AGE_SECONDS:
            return await self.read()
        return self._models

    async def read(self) -> tuple[ServedModel, ...]:
        """Return all models as they are announced right now."""
        deployment = await self._store.run(announcements.deployment())
        self._models = served_models(self._registry, deployment)
        self.webhook_workers = len(deployment.get(Queue.WEBHOOKS, QueueState()).workers)
        self._incomplete = not all(model.versions for model in self._models)
        self._read_at = time.monotonic()
        return self._models

    async def for_version(self, reference: str | None) -> ServedModel:
        """Return the model that a prediction's `version` stands for, or the default; raises InvalidInput, NoModel."""
        models = await self.all()
        if self._incomplete:
            # What is missing may have been announced within the last second.
            models = await self.read()
        return model_for(models, reference)

    async def named(self, name: str) -> ServedModel:
        """Return the model owner/name; raises ModelNotFound."""
        return model_named(await self.all(), name)


@dataclass(frozen=True)
class Services:
    """Everything that a use case may need."""

    settings: Settings
    tokens: Tokens
    rates: Rates
    signing_keys: SigningKeys
    store: AsyncPredictionStore
    storage: AudioStorage
    models: ServedModels
    ended: EndedListener
    followers: Followers
    forecasts: Forecasts
    lost_answers: LostAnswers
    readiness: Readiness
    large_files: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_FILES))
    """Held by whoever has a whole uploaded file in memory."""
