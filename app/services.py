"""What the routes work with, built once a process by `app.main`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.auth import Tokens
from app.following import Followers
from app.waiting import EndedListener
from predictions import commands
from predictions.errors import NoModel
from predictions.model_card import ModelCard
from predictions.settings import Settings
from predictions.storage import AudioStorage
from predictions.store import AsyncPredictionStore

MODEL_MAX_AGE_SECONDS = 1.0


@dataclass
class ServedModel:
    """The model card that the workers announced, read again when it is older than a second."""

    store: AsyncPredictionStore
    _card: ModelCard | None = None
    _read_at: float = float("-inf")

    async def card(self) -> ModelCard:
        """The announced model; raises NoModel where no worker ever announced one."""
        if time.monotonic() - self._read_at >= MODEL_MAX_AGE_SECONDS:
            self._card = (await self.store.run(commands.deployment())).model
            if self._card is None:
                raise NoModel("no worker has announced a model")
            self._read_at = time.monotonic()
        assert self._card is not None
        return self._card


@dataclass(frozen=True)
class Services:
    """Everything a route may need."""

    settings: Settings
    tokens: Tokens
    store: AsyncPredictionStore
    storage: AudioStorage
    model: ServedModel
    ended: EndedListener
    followers: Followers

    def base_url(self, request: Request) -> str:
        """The service's address as this client knows it, without a slash at its end."""
        return self.settings.public_url or str(request.base_url).rstrip("/")


async def get_services(request: Request) -> Services:
    """The services of the application that handles the request."""
    services: Services = request.app.state.services
    return services


InjectedServices = Annotated[Services, Depends(get_services)]
