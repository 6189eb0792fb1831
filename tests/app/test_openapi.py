"""The OpenAPI document, which generated clients are made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from app.document import document as stored_document
from predictions.settings import Settings
from tests.app.conftest import api_server

# Name, type, default, minimum, maximum: the schema of the page that this service generalises, and two of our own.
SEED_SCHEMA = [
    ("prompt", "string", None, None, None),
    ("input_audio", "string", None, None, None),
    ("duration", "integer", 8, 1, 30),
    ("continuation", "boolean", False, None, None),
    ("continuation_start", "integer", 0, 0, None),
    ("continuation_end", "integer", None, -1, None),
    ("multi_band_diffusion", "boolean", False, None, None),
    ("normalization_strategy", "NormalizationStrategy", "loudness", None, None),
    ("top_k", "integer", 250, 0, 2**31 - 1),
    ("top_p", "number", 0.0, 0, 1),
    ("temperature", "number", 1.0, 0, 100),
    ("classifier_free_guidance", "integer", 3, 0, 100),
    ("output_format", "OutputFormat", "wav", None, None),
    ("seed", "integer", None, -1, 2**32 - 1),
    ("continuation_mode", "ContinuationMode", "extend", None, None),
    ("adapter_strength", "number", 1.0, 0, 2),
]


@pytest.fixture
def document(settings: Settings) -> dict[str, Any]:
    with api_server(settings) as address:
        schema: dict[str, Any] = httpx.get(f"{address}/openapi.json", trust_env=False).json()
        return schema


def test_every_operation_has_a_name_and_a_description(document: dict[str, Any]) -> None:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert sorted(names) == [
        "cancel_prediction",
        "cancel_training",
        "create_prediction",
        "create_prediction_with_id",
        "create_training",
        "delete_file",
        "delete_prediction",
        "delete_training",
        "get_audio",
        "get_file",
        "get_model",
        "get_prediction",
        "get_training",
        "get_webhook_secret",
        "health_check",
        "health_live",
        "health_ready",
        "health_startup",
        "list_models",
        "list_predictions",
        "list_training_webhook_deliveries",
        "list_trainings",
        "list_webhook_deliveries",
        "redeliver_training_webhook",
        "redeliver_webhook",
        "rerun_prediction",
        "rotate_webhook_secret",
        "stream_prediction",
        "stream_training",
        "upload_file",
    ]
    assert all(operation["description"] for operation in operations)


def test_the_input_is_the_seeds_schema(document: dict[str, Any]) -> None:
    fields = document["components"]["schemas"]["Input"]["properties"]
    assert sorted(fields) == sorted(name for name, *_ in SEED_SCHEMA)
    for name, kind, default, minimum, maximum in SEED_SCHEMA:
        field = fields[name]
        plain = next((item for item in field.get("anyOf", []) if item.get("type") != "null"), field)
        assert plain.get("type", plain.get("$ref", "").rpartition("/")[2]) == kind, name
        assert field.get("default") == default, name
        assert (plain.get("minimum"), plain.get("maximum")) == (minimum, maximum), name
        assert field["description"]


def test_the_longest_duration_is_the_operator_s(settings: Settings) -> None:
    with api_server(settings.model_copy(update={"max_duration": 120})) as address:
        schema = httpx.get(f"{address}/openapi.json", trust_env=False).json()
    assert schema["components"]["schemas"]["Input"]["properties"]["duration"]["maximum"] == 120


def test_the_output_is_a_uri(document: dict[str, Any]) -> None:
    output = document["components"]["schemas"]["Output"]
    assert (output["title"], output["type"], output["format"]) == ("Output", "string", "uri")


def test_refusals_are_problems(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status.startswith("4"):
                    assert list(response["content"]) == ["application/problem+json"], (path, status)


def test_tokens_are_asked_for_where_they_are_needed(document: dict[str, Any], settings: Settings) -> None:
    assert "security" not in document["paths"]["/predictions"]["post"]
    closed = Settings(**{**settings.model_dump(), "api_tokens": "a-token-of-ann"})
    with api_server(closed) as address:
        schema = httpx.get(f"{address}/openapi.json", trust_env=False).json()
    assert schema["paths"]["/predictions"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in schema["paths"]["/health-check"]["get"]


def test_the_stored_document_is_current() -> None:
    stored = Path(__file__).parents[2] / "docs" / "openapi.json"
    assert stored.read_text() == stored_document(), "write it anew: make openapi"


def test_generators_find_names(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert all(schema["title"] == name for name, schema in schemas.items())
    assert not [name for name in schemas if "_" in name or name.endswith("Body")]
    used = {tag for path in document["paths"].values() for operation in path.values() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}


def test_the_document_says_which_fields_must_be_there(document: dict[str, Any]) -> None:
    schemas = {"components": document["components"], "$ref": "#/components/schemas/Input"}
    validator = Draft202012Validator(schemas)
    audio = "https://example.com/a.wav"
    for value in ({"prompt": ""}, {"input_audio": audio}, {"input_audio": audio, "continuation": True}):
        assert validator.is_valid(value), value
    for value in ({}, {"prompt": None}, {"prompt": "x", "continuation": True}):
        assert not validator.is_valid(value), value
