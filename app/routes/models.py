"""List the models and what they can do."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.application import InjectedServices
from app.auth import AnyTenant
from app.routes.responses import MISSING, REFUSALS
from predictions.models.card import Abilities
from predictions.models.inputs import Input, with_defaults
from predictions.models.served import ServedModel

router = APIRouter(tags=["models"], responses=REFUSALS)


class ModelUsage(BaseModel):
    """How many workers serve a model right now, and how many predictions it has."""

    name: str = Field(description="owner/name")
    workers: int = Field(description="Live workers; without any, its predictions wait.")
    queued: int
    running: int


class ServedModelBody(ModelUsage):
    """A model: its versions, what it can do, and its defaults for the inputs that a prediction leaves out."""

    model_config = ConfigDict(title="Model")

    is_default: bool = Field(description="Whether it serves the predictions that name no `version`.")
    versions: list[str] = Field(description="The versions that are served; none before its first worker is up.")
    abilities: Abilities | None = Field(description="Null before its first worker is up.")
    defaults: dict[str, Any] = Field(description="What a prediction gets for the inputs that it leaves out.")


class ModelList(BaseModel):
    """All models of this deployment."""

    results: list[ServedModelBody]


@router.get("/models")
async def list_models(_tenant: AnyTenant, services: InjectedServices) -> ModelList:
    """List the models of this deployment, with their versions and abilities."""
    return ModelList(results=[_body(model) for model in await services.models.all()])


@router.get("/models/{model_owner}/{model_name}", responses=MISSING)
async def get_model(
    model_owner: str, model_name: str, _tenant: AnyTenant, services: InjectedServices
) -> ServedModelBody:
    """Read one model, by its owner and its name."""
    return _body(await services.models.named(f"{model_owner}/{model_name}"))


def usage(model: ServedModel) -> ModelUsage:
    """Return what serves the model."""
    state = model.state
    return ModelUsage(name=model.name, workers=len(state.workers), queued=state.queued, running=state.running)


def _body(model: ServedModel) -> ServedModelBody:
    card = model.state.card
    effective = with_defaults(Input(prompt=""), model.entry.defaults)
    return ServedModelBody(
        **usage(model).model_dump(),
        is_default=model.is_default,
        versions=list(model.versions),
        abilities=Abilities(**card.model_dump(include=set(Abilities.model_fields))) if card else None,
        defaults=effective.model_dump(mode="json", exclude={"prompt"}, exclude_none=True),
    )
