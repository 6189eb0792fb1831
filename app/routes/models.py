"""List the models and what they can do."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app import fine_tunes
from app.application import InjectedServices
from app.auth import AnyTenant
from app.routes.responses import MISSING, REFUSALS
from predictions.fine_tunes.record import FineTune, Visibility
from predictions.models.card import Abilities
from predictions.models.inputs import Input, with_defaults
from predictions.models.served import ServedModel
from predictions.tenants import Tenant

router = APIRouter(tags=["models"], responses=REFUSALS)


class ModelUsage(BaseModel):
    """How many workers serve a model right now, and how many predictions it has."""

    name: str = Field(description="owner/name")
    workers: int = Field(description="Live workers; without any, its predictions wait.")
    queued: int
    running: int


class FineTuneBody(BaseModel):
    """What there is to say of a fine-tune beside what it has from its base."""

    model_config = ConfigDict(title="FineTune")

    base: str | None = Field(description="The model that its newest version changes; null without versions.")
    visibility: Visibility = Field(description="`private`: for its own token alone; `public`: for every token.")
    description: str | None
    is_own: bool = Field(description="Whether it is this token's, which alone may train, change and delete it.")
    created_at: datetime


class ServedModelBody(ModelUsage):
    """A model: its versions, what it can do, and its defaults for the inputs that a prediction leaves out.

    A fine-tune has its base's workers, queue, abilities and defaults.
    """

    model_config = ConfigDict(title="Model")

    is_default: bool = Field(description="Whether it serves the predictions that name no `version`.")
    versions: list[str] = Field(description="Its versions, newest first; none before its first worker is up.")
    trainers: int | None = Field(
        description="Live workers that train it; null where none ever has: trainings are refused then."
    )
    abilities: Abilities | None = Field(description="Null before its first worker is up.")
    defaults: dict[str, Any] = Field(description="What a prediction gets for the inputs that it leaves out.")
    fine_tune: FineTuneBody | None = Field(description="Null for the models that the operator has chosen.")


class ModelList(BaseModel):
    """All models of this deployment."""

    results: list[ServedModelBody]


@router.get("/models")
async def list_models(tenant: AnyTenant, services: InjectedServices) -> ModelList:
    """List the models of this deployment and the fine-tunes that this token may use, with versions and abilities."""
    models = await services.models.all()
    tunes = [_fine_tune(tenant, tune, models) for tune in await fine_tunes.visible(services, tenant)]
    return ModelList(results=[*(_body(model) for model in models), *tunes])


@router.get("/models/{model_owner}/{model_name}", responses=MISSING)
async def get_model(
    model_owner: str, model_name: str, tenant: AnyTenant, services: InjectedServices
) -> ServedModelBody:
    """Read one model, by its owner and its name."""
    model = await fine_tunes.named(services, tenant, f"{model_owner}/{model_name}")
    return _body(model) if isinstance(model, ServedModel) else _fine_tune(tenant, model, await services.models.all())


def usage(model: ServedModel) -> ModelUsage:
    """Return what serves the model."""
    state = model.state
    return ModelUsage(name=model.name, workers=len(state.workers), queued=state.queued, running=state.running)


def _body(model: ServedModel) -> ServedModelBody:
    return ServedModelBody(
        **usage(model).model_dump(),
        is_default=model.is_default,
        versions=list(model.versions),
        trainers=len(model.trainers.workers) if model.trainers.card else None,
        abilities=_abilities(model),
        defaults=_defaults(model, is_fine_tune=False),
        fine_tune=None,
    )


def _fine_tune(tenant: Tenant, tune: FineTune, models: tuple[ServedModel, ...]) -> ServedModelBody:
    base = fine_tunes.base_of(models, tune.versions[0]) if tune.versions else None
    own = FineTuneBody(
        base=tune.versions[0].base if tune.versions else None,
        visibility=tune.visibility,
        description=tune.description,
        is_own=tune.tenant == tenant.owner,
        created_at=tune.created_at,
    )
    served = usage(base) if base else ModelUsage(name=tune.name, workers=0, queued=0, running=0)
    return ServedModelBody(
        name=tune.name,
        workers=served.workers,
        queued=served.queued,
        running=served.running,
        is_default=False,
        versions=[version.id for version in tune.versions],
        trainers=None,
        abilities=_abilities(base) if base else None,
        defaults=_defaults(base, is_fine_tune=True) if base else {},
        fine_tune=own,
    )


def _abilities(model: ServedModel) -> Abilities | None:
    card = model.state.card
    return Abilities(**card.model_dump(include=set(Abilities.model_fields))) if card else None


def _defaults(model: ServedModel, *, is_fine_tune: bool) -> dict[str, Any]:
    effective = with_defaults(Input(prompt=""), model.defaults)
    left_out = {"prompt"} if is_fine_tune else {"prompt", "adapter_strength"}
    return effective.model_dump(mode="json", exclude=left_out, exclude_none=True)
