"""Models and their versions, with the schema of their inputs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.application import InjectedServices
from app.auth import AnyTenant
from app.replicate.pages import Page
from app.replicate.parameters import BaseUrl, ModelName, ModelOwner
from app.routes.responses import MISSING, REFUSALS
from predictions.errors import ModelNotFound
from predictions.models.inputs import Input
from predictions.models.served import ServedModel

router = APIRouter(tags=["models"], responses=REFUSALS | MISSING)

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
    visibility: Literal["public", "private"] = "private"
    github_url: str | None = None
    paper_url: str | None = "https://arxiv.org/abs/2306.05284"
    license_url: str | None = None
    run_count: int = 0
    cover_image_url: str | None = None
    default_example: None = None
    latest_version: VersionBody | None


@router.get("/models")
async def list_models(base_url: BaseUrl, _tenant: AnyTenant, services: InjectedServices) -> Page[ModelBody]:
    """List the models of this deployment."""
    return Page(results=[_model(model, base_url) for model in await services.models.all()])


@router.get("/models/{model_owner}/{model_name}")
async def get_model(
    model_owner: ModelOwner, model_name: ModelName, base_url: BaseUrl, _tenant: AnyTenant, services: InjectedServices
) -> ModelBody:
    """Read one model."""
    return _model(await services.models.named(f"{model_owner}/{model_name}"), base_url)


@router.get("/models/{model_owner}/{model_name}/versions")
async def list_versions(
    model_owner: ModelOwner, model_name: ModelName, _tenant: AnyTenant, services: InjectedServices
) -> Page[VersionBody]:
    """List the versions of a model that are served."""
    return Page(results=_versions(await services.models.named(f"{model_owner}/{model_name}")))


@router.get("/models/{model_owner}/{model_name}/versions/{version_id}")
async def get_version(
    model_owner: ModelOwner, model_name: ModelName, version_id: str, _tenant: AnyTenant, services: InjectedServices
) -> VersionBody:
    """Read one version of a model."""
    model = await services.models.named(f"{model_owner}/{model_name}")
    for version in _versions(model):
        if version.id == version_id:
            return version
    raise ModelNotFound(f"{model.name}:{version_id}")


def _model(model: ServedModel, base_url: str) -> ModelBody:
    owner, _, name = model.name.partition("/")
    versions = _versions(model)
    return ModelBody(
        url=f"{base_url}/models/{model.name}",
        owner=owner,
        name=name,
        latest_version=versions[0] if versions else None,
    )


def _versions(model: ServedModel) -> list[VersionBody]:
    schema = _schema(model)
    return [
        VersionBody(id=version, created_at=UNKNOWN_TIME, cog_version=COG_VERSION, openapi_schema=schema)
        for version in model.versions
    ]


def _schema(model: ServedModel) -> dict[str, Any]:
    """Return an OpenAPI document with the schemas Input and Output, the former with the model's own defaults."""
    given = Input.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = given.pop("$defs", {})
    for name, value in model.entry.defaults.items():
        given["properties"][name]["default"] = value
    if model.state.card:
        given["properties"]["duration"]["maximum"] = model.state.card.max_duration
    output = {"title": "Output", "type": "string", "format": "uri"}
    return {
        "openapi": "3.1.0",
        "info": {"title": model.name, "version": "1"},
        "paths": {},
        "components": {"schemas": {**parts, "Input": given, "Output": output}},
    }
