"""Several models in one deployment, as the API sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from predictions import commands
from predictions.settings import Settings
from predictions.store import PredictionStore
from tests.app.conftest import CARD, api_server

FILE = """
[[models]]
name = "ann/melody"
source = "/nowhere"
default = true

[[models]]
name = "ann/text"
source = "/nowhere"
defaults = { duration = 5 }

[[models]]
name = "ann/late"
source = "/nowhere"
"""
TEXT_VERSION = "t" * 64


@pytest.fixture
def client(settings: Settings, store: PredictionStore, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of an API with three models, of which one was never announced."""
    path = tmp_path / "models.toml"
    path.write_text(FILE)
    melody = CARD.model_copy(update={"name": "ann/melody"})
    text = CARD.model_copy(update={"name": "ann/text", "version": TEXT_VERSION, "melody": False})
    for card in (melody, text):
        store.run(commands.announce(f"worker of {card.name}", f"generation:{card.name}", card, 60.0))
    several = settings.model_copy(update={"models": path})
    with api_server(several) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("version", ["ann/text", f"ann/text:{TEXT_VERSION}", TEXT_VERSION])
def test_a_prediction_goes_to_the_model_it_names(client: httpx.Client, store: PredictionStore, version: str) -> None:
    body = client.post("/predictions", json={"version": version, "input": {"prompt": "piano"}}).json()
    assert (body["model"], body["version"]) == ("ann/text", TEXT_VERSION)
    assert body["input"]["duration"] == 5
    assert body["queue_position"] == 0
    assert store.redis.llen("generation:ann/text") == 1
    assert store.redis.llen("generation:ann/melody") == store.redis.llen("generation") == 0


def test_without_a_name_it_goes_to_the_default_one(client: httpx.Client, store: PredictionStore) -> None:
    for position in (0, 1):
        body = client.post("/predictions", json={"input": {"prompt": "piano"}}).json()
        assert (body["model"], body["input"]["duration"], body["queue_position"]) == ("ann/melody", 8, position)
    other = client.post("/predictions", json={"version": "ann/text", "input": {"prompt": "piano"}}).json()
    assert other["queue_position"] == 0
    assert store.redis.llen("generation:ann/melody") == 2


def test_what_the_named_model_cannot_do_is_refused(client: httpx.Client) -> None:
    tune = {"input_audio": "https://example.com/a.wav"}
    assert client.post("/predictions", json={"input": tune}).status_code == 202
    refused = client.post("/predictions", json={"version": "ann/text", "input": tune})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["message"] == "the model ann/text cannot follow a melody"


def test_an_unknown_model_is_refused_with_those_that_are_known(client: httpx.Client) -> None:
    for version in ("ann/drums", "u" * 64, "ann/melody:" + "u" * 64):
        answer = client.post("/predictions", json={"version": version, "input": {"prompt": "piano"}})
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["field"] == "version"
        assert f"ann/text:{TEXT_VERSION}" in error["remedy"]


def test_a_model_that_no_worker_has_announced_may_come(client: httpx.Client) -> None:
    answer = client.post("/predictions", json={"version": "ann/late", "input": {"prompt": "piano"}})
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


def test_the_models_can_be_listed(client: httpx.Client) -> None:
    models = {model["name"]: model for model in client.get("/models").json()["results"]}
    assert list(models) == ["ann/melody", "ann/text", "ann/late"]
    assert [model["default"] for model in models.values()] == [True, False, False]
    assert [model["workers"] for model in models.values()] == [1, 1, 0]
    assert models["ann/text"]["defaults"] == {"duration": 5}
    assert models["ann/text"]["card"]["melody"] is False
    assert models["ann/late"]["card"] is None
    assert client.get("/models/ann/text").json() == models["ann/text"]
    assert client.get("/models/ann/drums").status_code == 404
    assert client.get("/health-check").json()["status"] == "degraded"
