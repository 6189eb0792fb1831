"""Deployments: here each model is one, under its own name."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.application import InjectedServices
from app.auth import AnyTenant
from app.guard.route import GuardedRoute
from app.replicate.account import ACCOUNT, HARDWARE, AccountBody
from app.replicate.models import UNKNOWN_TIME
from app.replicate.pages import Page
from app.replicate.parameters import ModelName, ModelOwner
from app.replicate.predictions import InjectedPosted
from app.routes.responses import MISSING, REFUSALS, UNREADABLE
from predictions.models.served import ServedModel
from predictions.representation import PredictionBody

router = APIRouter(tags=["deployments"], responses=REFUSALS | MISSING, route_class=GuardedRoute)


class Configuration(BaseModel):
    """The hardware and the workers that a deployment runs on."""

    hardware: str
    min_instances: int
    max_instances: int


class Release(BaseModel):
    """The version that is deployed."""

    number: int = 1
    model: str
    version: str
    created_at: str
    created_by: AccountBody
    configuration: Configuration


class DeploymentBody(BaseModel):
    """A model and the workers that serve it."""

    owner: str
    name: str
    current_release: Release


@router.get("/deployments")
async def list_deployments(_tenant: AnyTenant, services: InjectedServices) -> Page[DeploymentBody]:
    """List the deployments."""
    return Page(results=[_deployment(model) for model in await services.models.all() if model.versions])


@router.get("/deployments/{model_owner}/{model_name}")
async def get_deployment(
    model_owner: ModelOwner, model_name: ModelName, _tenant: AnyTenant, services: InjectedServices
) -> DeploymentBody:
    """Read a deployment; 503 before a worker has announced its model."""
    return _deployment(await services.models.named(f"{model_owner}/{model_name}"))


@router.post(
    "/deployments/{model_owner}/{model_name}/predictions",
    status_code=201,
    response_model=PredictionBody,
    responses=UNREADABLE,
)
async def create_prediction_of_deployment(
    model_owner: ModelOwner, model_name: ModelName, posted: InjectedPosted
) -> Response:
    """Create a prediction with the deployed model."""
    return await posted.answer_by(f"{model_owner}/{model_name}")


def _deployment(model: ServedModel) -> DeploymentBody:
    owner, _, name = model.name.partition("/")
    workers = len(model.state.workers)
    return DeploymentBody(
        owner=owner,
        name=name,
        current_release=Release(
            model=model.name,
            version=model.card.version,
            created_at=UNKNOWN_TIME.isoformat(),
            created_by=ACCOUNT,
            configuration=Configuration(hardware=HARDWARE.sku, min_instances=workers, max_instances=workers),
        ),
    )
