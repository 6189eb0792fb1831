"""The OpenAPI document: FastAPI derives it from the routes; what they do not say is completed here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.problems import MEDIA_TYPE
from predictions.settings import Settings

PROBLEM = {"$ref": "#/components/schemas/Problem"}
SCHEMAS = "#/components/schemas/"
TAGS = [
    {"name": "predictions", "description": "Ask for music, and get it."},
    {"name": "models", "description": "The models of this deployment."},
    {"name": "trainings", "description": "Teach a model a style, as a new version of a model of yours."},
    {"name": "webhooks", "description": "What was sent to the receivers; send it again."},
    {"name": "streams", "description": "Follow a prediction while it is made: its events, and its sound."},
    {"name": "files", "description": "Audio files that predictions start from."},
    {"name": "service", "description": "Whether the service is up, and what it serves."},
]
AUDIO_FILE = {"type": "string", "format": "binary", "description": "The audio file."}
NOTHING_GIVEN = {"properties": {"prompt": {"type": "null"}, "input_audio": {"type": "null"}}}
NOTHING_TO_CONTINUE = {
    "required": ["continuation"],
    "properties": {"continuation": {"const": True}, "input_audio": {"type": "null"}},
}


def complete(schema: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return FastAPI's document with what the routes alone do not say.

    Problems stand under their media type, tokens are asked for only where the operator has set some, and the longest
    duration is the operator's.
    """
    schemas = schema["components"]["schemas"]
    schemas["Input"]["properties"]["duration"]["maximum"] = settings.max_duration
    schemas["Input"]["not"] = {"anyOf": [NOTHING_GIVEN, NOTHING_TO_CONTINUE]}
    schemas["Body_upload_file"]["properties"]["content"] = AUDIO_FILE
    schema = _name_schemas(schema)
    for operation in _operations(schema):
        _name_problems(operation)
        if not settings.asks_for_tokens:
            operation.pop("security", None)
    return schema


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema["paths"].values():
        yield from path.values()


def _name_schemas(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the document with its schemas under names that suit the classes of a generated client."""
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
    """Return a schema's own title; a form's body, whose name FastAPI makes up, is named after its operation."""
    if name.startswith("Body_"):
        return name.removeprefix("Body_").title().replace("_", "")
    title: str = schema["title"]
    return title.removesuffix("Body")


def _name_problems(operation: dict[str, Any]) -> None:
    """Move problems to their media type: FastAPI lists every model under that of the route's success."""
    for response in operation["responses"].values():
        content = response.get("content", {})
        for media_type in [name for name, item in content.items() if item.get("schema") == PROBLEM]:
            content[MEDIA_TYPE] = content.pop(media_type)
