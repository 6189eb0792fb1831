"""What the routes work with, built once a process by `app.main`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from app.auth import Tokens
from app.waiting import EndedListener
from predictions import commands
from predictions.commands import ServedModel
from predictions.errors import FieldError, InvalidInput, NoModel
from predictions.model_card import ModelCard
from predictions.models import Model, Registry
from predictions.settings import Settings
from predictions.storage import AudioStorage
from predictions.store import AsyncPredictionStore

MODELS_MAX_AGE_SECONDS = 1.0


@dataclass
class Models:
    """The registry's models and what their workers announced of them, read again when it is older than a second."""

    registry: Registry
    store: AsyncPredictionStore
    _served: dict[str, ServedModel] = field(default_factory=dict)
    _read_at: float = float("-inf")

    async def find(self, reference: str | None) -> tuple[Model, ModelCard]:
        """The model that a request names by "owner/name:version", "owner/name" or the version; None: the default.

        Raises InvalidInput where there is none, NoModel where no worker ever announced it.
        """
        served = await self._announced()
        if reference is None:
            return self._with_card(self.registry.default, served)
        if (model := self.registry.by_name(reference)) is not None:
            return self._with_card(model, served)
        for model in self.registry.models:
            if (found := served.get(model.queue)) is not None:
                version = found.card.version
                if reference in (version, f"{found.card.name}:{version}"):
                    return model, found.card
        known = ", ".join(_reference(model, served) for model in self.registry.models)
        raise InvalidInput(
            FieldError("version", f"{reference} is not served", f"leave it out, or send one of: {known}")
        )

    async def _announced(self) -> dict[str, ServedModel]:
        if time.monotonic() - self._read_at >= MODELS_MAX_AGE_SECONDS:
            self._served = (await self.store.run(commands.deployment())).models
            self._read_at = time.monotonic()
        return self._served

    def _with_card(self, model: Model, served: dict[str, ServedModel]) -> tuple[Model, ModelCard]:
        if model.queue not in served:
            self._read_at = float("-inf")  # a worker may come at any moment
            raise NoModel(f"no worker has announced the model {model.name}")
        return model, served[model.queue].card


def _reference(model: Model, served: dict[str, ServedModel]) -> str:
    return f"{model.name}:{served[model.queue].card.version}" if model.queue in served else model.name


@dataclass(frozen=True)
class Services:
    """Everything a route may need."""

    settings: Settings
    tokens: Tokens
    store: AsyncPredictionStore
    storage: AudioStorage
    models: Models
    ended: EndedListener

    def base_url(self, request: Request) -> str:
        """The service's address as this client knows it, without a slash at its end."""
        return self.settings.public_url or str(request.base_url).rstrip("/")


async def get_services(request: Request) -> Services:
    """The services of the application that handles the request."""
    services: Services = request.app.state.services
    return services


InjectedServices = Annotated[Services, Depends(get_services)]
