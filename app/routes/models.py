"""List the models and what they can do."""

from __future__ import annotations

from fastapi import APIRouter

from app.auth import Owner
from app.bodies import ModelBody, ModelList
from app.routes.predictions import MISSING, REFUSALS
from app.services import InjectedServices
from predictions.models.card import Abilities
from predictions.models.inputs import Input, with_defaults
from predictions.models.served import ServedModel

router = APIRouter(tags=["models"], responses=REFUSALS)


@router.get("/models")
async def list_models(_owner: Owner, services: InjectedServices) -> ModelList:
    """All models of this deployment, with their versions and abilities."""
    return ModelList(results=[_body(model) for model in await services.models.all()])


@router.get("/models/{model_owner}/{model_name}", responses=MISSING)
async def get_model(model_owner: str, model_name: str, _owner: Owner, services: InjectedServices) -> ModelBody:
    """One model, by its owner and its name."""
    return _body(await services.models.named(f"{model_owner}/{model_name}"))


def _body(model: ServedModel) -> ModelBody:
    card, state = model.state.card, model.state
    effective = with_defaults(Input(prompt=""), model.entry.defaults)
    return ModelBody(
        name=model.name,
        workers=len(state.workers),
        queued=state.queued,
        running=state.running,
        is_default=model.is_default,
        versions=list(model.versions),
        abilities=Abilities(**card.model_dump(include=set(Abilities.model_fields))) if card else None,
        defaults=effective.model_dump(mode="json", exclude={"prompt"}, exclude_none=True),
    )
