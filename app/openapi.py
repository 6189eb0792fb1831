"""The OpenAPI document: what FastAPI derives from the routes, put right where it cannot know better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.problems import MEDIA_TYPE

PROBLEM = {"$ref": "#/components/schemas/Problem"}
SCHEMAS = "#/components/schemas/"
TAGS = [
    {"name": "predictions", "description": "Ask for music, and get it."},
    {"name": "models", "description": "The models of this deployment."},
    {"name": "webhooks", "description": "What was sent to the receivers, and sending it again."},
    {"name": "streams", "description": "Follow a prediction while it is made: its events, and its sound."},
    {"name": "files", "description": "Audio files that predictions start from."},
    {"name": "service", "description": "Whether the service serves, and what."},
]
AUDIO_FILE = {"type": "string", "format": "binary", "description": "The audio file."}
NOTHING_GIVEN = {"properties": {"prompt": {"type": "null"}, "input_audio": {"type": "null"}}}
NOTHING_TO_CONTINUE = {
    "required": ["continuation"],
    "properties": {"continuation": {"const": True}, "input_audio": {"type": "null"}},
}


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
                tags=TAGS,
            )
            app.openapi_schema = put_right(schema, needs_token=needs_token, max_duration=max_duration)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def put_right(schema: dict[str, Any], *, needs_token: bool, max_duration: int) -> dict[str, Any]:
    """FastAPI's document with what it cannot know."""
    schemas = schema["components"]["schemas"]
    schemas["Input"]["properties"]["duration"]["maximum"] = max_duration
    schemas["Input"]["not"] = {"anyOf": [NOTHING_GIVEN, NOTHING_TO_CONTINUE]}
    schemas["Body_upload_file"]["properties"]["content"] = AUDIO_FILE
    schema = _name_schemas(schema)
    for operation in _operations(schema):
        _name_problems(operation)
        if not needs_token:
            operation.pop("security", None)
    return schema


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema["paths"].values():
        yield from path.values()


def _name_schemas(schema: dict[str, Any]) -> dict[str, Any]:
    """The document with its schemas under names that suit the classes of a generated client."""
    titles = {name: _title(name, item) for name, item in schema["components"]["schemas"].items()}
    schemas = schema["components"]["schemas"]
    schema["components"]["schemas"] = {titles[name]: {**item, "title": titles[name]} for name, item in schemas.items()}
    references = {SCHEMAS + name: SCHEMAS + title for name, title in titles.items()}

    def renamed(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: references[value] if key == "$ref" else renamed(value) for key, value in part.items()}
        return [renamed(item) for item in part] if isinstance(part, list) else part

    result: dict[str, Any] = renamed(schema)
    return result


def _title(name: str, schema: dict[str, Any]) -> str:
    """Its own title; the body of a form, whose name FastAPI makes up, is called after its operation."""
    if name.startswith("Body_"):
        return name.removeprefix("Body_").title().replace("_", "")
    title: str = schema["title"]
    return title.removesuffix("Body")


def _name_problems(operation: dict[str, Any]) -> None:
    """FastAPI lists every model under the media type of the route's success."""
    for response in operation["responses"].values():
        content = response.get("content", {})
        for media_type in [name for name, item in content.items() if item.get("schema") == PROBLEM]:
            content[MEDIA_TYPE] = content.pop(media_type)
