"""What the routes work with, built once a process by `app.main`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.auth import Tokens
from app.live.followers import Followers
from app.live.forecasts import Forecasts
from app.live.waiting import EndedListener
from app.retries.lost_answers import LostAnswers
from predictions.models import announcements
from predictions.models.registry import Registry
from predictions.models.served import ServedModel, model_for, model_named, served_models
from predictions.record.store import AsyncPredictionStore
from predictions.settings import Settings
from predictions.storage.protocol import AudioStorage

MODELS_MAX_AGE_SECONDS = 1.0

V1 = "/v1"
"""Where the part of the API for Replicate's clients begins."""


@dataclass
class ServedModels:
    """The registry's models with what their workers announced, read again when it is older than a second.

    Every route that names a model, its versions or its abilities reads them from here.
    """

    store: AsyncPredictionStore
    registry: Registry
    _models: tuple[ServedModel, ...] = ()
    _read_at: float = float("-inf")

    async def all(self) -> tuple[ServedModel, ...]:
        """All of them, in the registry's order."""
        if time.monotonic() - self._read_at >= MODELS_MAX_AGE_SECONDS:
            deployment = await self.store.run(announcements.deployment())
            self._models = served_models(self.registry, deployment)
            self._read_at = time.monotonic()
        return self._models

    async def for_version(self, reference: str | None) -> ServedModel:
        """The model that a prediction's `version` stands for, or the default; raises InvalidInput, NoModel."""
        return model_for(await self.all(), reference)

    async def named(self, name: str) -> ServedModel:
        """The model owner/name; raises ModelNotFound."""
        return model_named(await self.all(), name)


@dataclass(frozen=True)
class Services:
    """Everything a route may need."""

    settings: Settings
    tokens: Tokens
    store: AsyncPredictionStore
    storage: AudioStorage
    models: ServedModels
    ended: EndedListener
    followers: Followers
    forecasts: Forecasts
    lost_answers: LostAnswers

    def base_url(self, request: Request) -> str:
        """The service's address as this client knows it, without a slash at its end."""
        return self.settings.public_url or str(request.base_url).rstrip("/")


async def get_services(request: Request) -> Services:
    """The services of the application that handles the request."""
    services: Services = request.app.state.services
    return services


InjectedServices = Annotated[Services, Depends(get_services)]
