"""Models and their versions, with the schema of their inputs; fine-tunes can be made, changed and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app import fine_tunes
from app.application import InjectedServices
from app.auth import AnyTenant, CurrentTenant
from app.guard.route import GuardedRoute
from app.problems import Problem
from app.replicate.pages import Page
from app.replicate.parameters import BaseUrl, ModelName, ModelOwner
from app.routes.responses import MISSING, REFUSALS, UNREADABLE, Responses
from predictions.errors import ModelNotFound
from predictions.fine_tunes.record import FineTune, Visibility
from predictions.models.inputs import Input
from predictions.models.registry import NAME_PART
from predictions.models.served import ServedModel

router = APIRouter(tags=["models"], responses=REFUSALS | MISSING, route_class=GuardedRoute)

TAKEN: Responses = {409: {"model": Problem, "description": "The name is taken, or there are too many models."}}
USED: Responses = {409: {"model": Problem, "description": "The model has versions."}}

UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)
"""Stands for when a version was made, which is not known here."""
COG_VERSION = "0.9.0"
"""The version of Cog whose schemas ours are like; clients treat those of older ones differently."""


class VersionBody(BaseModel):
    """A version of a model, and the schemas of its input and output."""

    id: str
    created_at: datetime
    cog_version: str
    openapi_schema: dict[str, Any]


class ModelBody(BaseModel):
    """A model, as Replicate describes one."""

    url: str
    owner: str
    name: str
    description: str | None = None
    visibility: Visibility = Visibility.PRIVATE
    github_url: str | None = None
    paper_url: str | None = "https://arxiv.org/abs/2306.05284"
    license_url: str | None = None
    run_count: int = 0
    cover_image_url: str | None = None
    default_example: None = None
    latest_version: VersionBody | None


class NewModel(BaseModel):
    """A fine-tune to be created. What else Replicate's clients send means nothing here."""

    owner: Annotated[str, Field(pattern=f"^{NAME_PART}$", max_length=100)]
    name: Annotated[str, Field(pattern=f"^{NAME_PART}$", max_length=100)]
    visibility: Annotated[Visibility, Field(description="`private`: for this token alone; `public`: for every token.")]
    hardware: Annotated[str, Field(max_length=200, description="Any: it runs on its base's workers.")]
    description: Annotated[str | None, Field(max_length=500)] = None


class ModelChange(BaseModel):
    """What is to change of a fine-tune; what is left out stays as it is."""

    visibility: Visibility | None = None
    description: Annotated[str | None, Field(max_length=500)] = None


@router.get("/models")
async def list_models(base_url: BaseUrl, tenant: AnyTenant, services: InjectedServices) -> Page[ModelBody]:
    """List the models of this deployment, and the fine-tunes that this token may use."""
    models = await services.models.all()
    tunes = await fine_tunes.visible(services, tenant)
    served = [_model(model, models, base_url) for model in models]
    return Page(results=[*served, *(_model(tune, models, base_url) for tune in tunes)])


@router.post("/models", status_code=201, responses=UNREADABLE | TAKEN)
async def create_model(
    body: NewModel, base_url: BaseUrl, tenant: CurrentTenant, services: InjectedServices
) -> ModelBody:
    """Create a fine-tune without versions: the destination of trainings."""
    name = f"{body.owner}/{body.name}"
    tune = await fine_tunes.create(services, tenant, name, body.visibility, body.description or None)
    return _model(tune, await services.models.all(), base_url)


@router.get("/models/{model_owner}/{model_name}")
async def get_model(
    model_owner: ModelOwner, model_name: ModelName, base_url: BaseUrl, tenant: AnyTenant, services: InjectedServices
) -> ModelBody:
    """Read one model."""
    model = await fine_tunes.named(services, tenant, f"{model_owner}/{model_name}")
    return _model(model, await services.models.all(), base_url)


@router.patch("/models/{model_owner}/{model_name}", responses=UNREADABLE)
async def update_model(
    model_owner: ModelOwner,
    model_name: ModelName,
    body: ModelChange,
    base_url: BaseUrl,
    tenant: CurrentTenant,
    services: InjectedServices,
) -> ModelBody:
    """Change who may see a fine-tune of this token, or its description."""
    name = f"{model_owner}/{model_name}"
    tune = await fine_tunes.change(services, tenant, name, body.visibility, body.description)
    return _model(tune, await services.models.all(), base_url)


@router.delete("/models/{model_owner}/{model_name}", status_code=204, responses=USED)
async def delete_model(
    model_owner: ModelOwner, model_name: ModelName, tenant: CurrentTenant, services: InjectedServices
) -> None:
    """Delete a fine-tune of this token that has no versions."""
    await fine_tunes.delete(services, tenant, f"{model_owner}/{model_name}")


@router.get("/models/{model_owner}/{model_name}/versions")
async def list_versions(
    model_owner: ModelOwner, model_name: ModelName, tenant: AnyTenant, services: InjectedServices
) -> Page[VersionBody]:
    """List the versions of a model, newest first."""
    model = await fine_tunes.named(services, tenant, f"{model_owner}/{model_name}")
    return Page(results=list(_versions(model, await services.models.all())))


@router.get("/models/{model_owner}/{model_name}/versions/{version_id}")
async def get_version(
    model_owner: ModelOwner, model_name: ModelName, version_id: str, tenant: AnyTenant, services: InjectedServices
) -> VersionBody:
    """Read one version of a model."""
    model = await fine_tunes.named(services, tenant, f"{model_owner}/{model_name}")
    for version in _versions(model, await services.models.all()):
        if version.id == version_id:
            return version
    raise ModelNotFound(f"{model.name}:{version_id}")


@router.delete("/models/{model_owner}/{model_name}/versions/{version_id}", status_code=204)
async def delete_version(
    model_owner: ModelOwner, model_name: ModelName, version_id: str, tenant: CurrentTenant, services: InjectedServices
) -> None:
    """Delete a version of a fine-tune of this token, and its files; predictions that wait for it then fail."""
    await fine_tunes.delete_version(services, tenant, f"{model_owner}/{model_name}", version_id)


def _model(model: ServedModel | FineTune, models: tuple[ServedModel, ...], base_url: str) -> ModelBody:
    owner, _, name = model.name.partition("/")
    body = ModelBody(
        url=f"{base_url}/models/{model.name}",
        owner=owner,
        name=name,
        latest_version=next(_versions(model, models), None),
    )
    if isinstance(model, ServedModel):
        return body
    return body.model_copy(update={"visibility": model.visibility, "description": model.description})


def _versions(model: ServedModel | FineTune, models: tuple[ServedModel, ...]) -> Iterator[VersionBody]:
    """Yield a model's versions, newest first; `models`: the registry's, a fine-tune's bases among them."""
    if isinstance(model, ServedModel):
        for served in model.versions:
            yield _version(served, UNKNOWN_TIME, _schema(model.name, model, is_fine_tune=False))
    else:
        for version in model.versions:
            base = fine_tunes.base_of(models, version)
            yield _version(version.id, version.created_at, _schema(model.name, base, is_fine_tune=True))


def _version(version_id: str, created_at: datetime, schema: dict[str, Any]) -> VersionBody:
    return VersionBody(id=version_id, created_at=created_at, cog_version=COG_VERSION, openapi_schema=schema)


@cache
def _input_schema() -> dict[str, Any]:
    return Input.model_json_schema(ref_template="#/components/schemas/{model}")


def _schema(name: str, base: ServedModel | None, *, is_fine_tune: bool) -> dict[str, Any]:
    """Return an OpenAPI document with the schemas Input and Output, the former with the defaults of the model's base.

    `base`: the model whose workers serve it; None where there are none.
    """
    given = deepcopy(_input_schema())
    parts = given.pop("$defs", {})
    if not is_fine_tune:
        del given["properties"]["adapter_strength"]
    for field, value in (base.defaults if base else {}).items():
        given["properties"][field]["default"] = value
    if base and base.state.card:
        given["properties"]["duration"]["maximum"] = base.state.card.max_duration
    output = {"title": "Output", "type": "string", "format": "uri"}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1"},
        "paths": {},
        "components": {"schemas": {**parts, "Input": given, "Output": output}},
    }
