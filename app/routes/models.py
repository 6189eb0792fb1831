"""The models that can be asked for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from app.auth import Owner
from app.bodies import ModelBody, ModelList
from app.problems import Problem
from app.services import InjectedServices
from predictions import commands
from predictions.errors import ModelNotFound

REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The token is missing or wrong."},
    503: {"model": Problem, "description": "Redis does not answer; try again after `Retry-After` seconds."},
}

router = APIRouter(tags=["models"], responses=REFUSALS)


@router.get("/models")
async def list_models(_: Owner, services: InjectedServices) -> ModelList:
    """All models, what they can do, and how many workers serve each."""
    return ModelList(results=await _models(services))


@router.get(
    "/models/{owner}/{name}",
    responses={404: {"model": Problem, "description": "There is no such model."}},
)
async def get_model(
    _: Owner,
    owner: Annotated[str, Path(max_length=100, description="The first part of the model's name.")],
    name: Annotated[str, Path(max_length=100, description="The second part of the model's name.")],
    services: InjectedServices,
) -> ModelBody:
    """One model."""
    for model in await _models(services):
        if model.name == f"{owner}/{name}":
            return model
    raise ModelNotFound(f"{owner}/{name}")


async def _models(services: InjectedServices) -> list[ModelBody]:
    served = (await services.store.run(commands.deployment())).models
    registry = services.models.registry
    bodies = []
    for model in registry.models:
        found = served.get(model.queue)
        bodies.append(
            ModelBody(
                name=found.card.name if found else model.name,
                version=found.card.version if found else model.version,
                default=model is registry.default,
                defaults=model.defaults,
                card=found.card if found else None,
                workers=len(found.workers) if found else 0,
                queued=found.queued if found else 0,
            )
        )
    return bodies
