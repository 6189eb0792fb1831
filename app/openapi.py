"""The OpenAPI document: what FastAPI derives from the routes, put right where it cannot know better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.problems import MEDIA_TYPE

PROBLEM = {"$ref": "#/components/schemas/Problem"}


def describe(app: FastAPI, *, needs_token: bool, max_duration: int) -> None:
    """Have the application describe itself: problems under their media type, tokens only where they are needed, the
    longest duration in seconds as the operator has set it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            schema["components"]["schemas"]["Input"]["properties"]["duration"]["maximum"] = max_duration
            for operation in _operations(schema):
                _name_problems(operation)
                if not needs_token:
                    operation.pop("security", None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema["paths"].values():
        yield from path.values()


def _name_problems(operation: dict[str, Any]) -> None:
    """FastAPI lists every model under the media type of the route's success."""
    for response in operation["responses"].values():
        content = response.get("content", {})
        for media_type in [name for name, item in content.items() if item.get("schema") == PROBLEM]:
            content[MEDIA_TYPE] = content.pop(media_type)
