"""Several models in one deployment, as a client of the API sees them; no worker runs, so everything waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from predictions.models.card import Announcement, ModelCard
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from tests.app.conftest import TUNE, WORDS, api_server
from tests.servers import wait_until

AUDIO = "https://example.com/a.mp3"


@pytest.fixture
def client(client_of_several: httpx.Client) -> httpx.Client:
    return client_of_several


def post(client: httpx.Client, version: str | None = None, **value: Any) -> httpx.Response:
    body = {"input": {"prompt": "piano", **value}}
    return client.post("/predictions", json=body if version is None else {**body, "version": version})


def waiting(store: PredictionStore, queue: str) -> list[str]:
    return [json.loads(json.loads(item)["body"])[0][0] for item in store.redis.lrange(queue, 0, -1)]


@pytest.mark.parametrize(
    ("reference", "card"),
    [
        (None, TUNE),
        ("1.0", TUNE),
        ("ann/tune", TUNE),
        ("ann/tune:1.0", TUNE),
        (WORDS.version, WORDS),
        ("bob/words", WORDS),
        (f"bob/words:{WORDS.version}", WORDS),
    ],
)
def test_version_names_the_model_whose_queue_it_goes_to(
    client: httpx.Client, store: PredictionStore, reference: str | None, card: ModelCard
) -> None:
    body = post(client, reference).json()
    assert (body["model"], body["version"]) == (card.name, card.version)
    queues = {name: waiting(store, f"generation:{name}") for name in (TUNE.name, WORDS.name)}
    assert queues == {TUNE.name: [], WORDS.name: []} | {card.name: [body["id"]]}
    message = json.loads(store.redis.lindex(f"generation:{card.name}", 0))
    assert message["properties"]["delivery_info"]["routing_key"] == f"generation:{card.name}"


@pytest.mark.parametrize("reference", ["ann/tune:2.0", "ann/none", "eve/tune:1.0", f"ann/tune:{WORDS.version}"])
def test_a_version_that_is_not_served_is_refused_and_the_others_named(client: httpx.Client, reference: str) -> None:
    answer = post(client, reference)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == "version"
    assert all(known in error["remedy"] for known in ("ann/tune:1.0", f"bob/words:{WORDS.version}"))


@pytest.mark.parametrize("reference", ["bob/late", "bob/late:1", "unknown"])
def test_a_model_that_is_not_up_yet_is_to_be_asked_for_later(client: httpx.Client, reference: str) -> None:
    answer = post(client, reference)
    assert answer.status_code == 503
    assert "bob/late" in answer.json()["detail"]


def test_a_version_of_two_models_needs_its_name(
    client: httpx.Client, announce: Callable[[Announcement, str], None]
) -> None:
    announce(WORDS.model_copy(update={"version": "1.0"}), "generation:bob/words")
    wait_until(lambda: post(client, "bob/words:1.0").status_code == 202)
    [error] = post(client, "1.0").json()["errors"]
    assert "ann/tune and bob/words" in error["message"]
    assert error["remedy"] == "send owner/name:version"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_audio", {"input_audio": AUDIO}),
        ("continuation", {"input_audio": AUDIO, "continuation": True}),
        ("multi_band_diffusion", {"multi_band_diffusion": True}),
        ("duration", {"duration": 11}),
    ],
)
def test_what_one_model_cannot_do_is_refused_and_another_does_it(
    client: httpx.Client, store: PredictionStore, field: str, value: dict[str, Any]
) -> None:
    refused = post(client, "bob/words", **value)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert waiting(store, "generation:bob/words") == []
    assert post(client, "ann/tune", **value).status_code == 202


def test_a_models_defaults_fill_in_what_is_left_out(client: httpx.Client) -> None:
    asked = post(client, normalization_strategy="rms").json()["input"]
    assert (asked["duration"], asked["normalization_strategy"], asked["top_k"]) == (12, "rms", 250)
    assert post(client, duration=8).json()["input"]["duration"] == 8
    assert post(client, "bob/words").json()["input"]["duration"] == 8


def test_a_models_own_defaults_stand_behind_the_registrys(
    client: httpx.Client, announce: Callable[[Announcement], None]
) -> None:
    own = TUNE.model_copy(update={"defaults": {"temperature": 0.5, "duration": 20}})
    announce(own, f"generation:{TUNE.name}")
    wait_until(lambda: client.get("/models/ann/tune").json()["defaults"]["temperature"] == 0.5)
    asked = post(client).json()["input"]
    assert (asked["temperature"], asked["duration"], asked["classifier_free_guidance"]) == (0.5, 12, 3)
    assert post(client, temperature=1).json()["input"]["temperature"] == 1
    schema = client.get("/v1/models/ann/tune").json()["latest_version"]["openapi_schema"]
    assert schema["components"]["schemas"]["Input"]["properties"]["temperature"]["default"] == 0.5


def test_what_is_left_out_is_not_what_the_schema_says(client: httpx.Client) -> None:
    """Repeated with the same key, a request must be the same, also where the schema's default is a model's no more."""
    headers = {"Idempotency-Key": "k"}
    request: dict[str, Any] = {"input": {"prompt": "piano"}}
    first = client.post("/predictions", json=request, headers=headers).json()
    assert client.post("/predictions", json=request, headers=headers).json()["id"] == first["id"]
    request["input"]["duration"] = 8
    assert client.post("/predictions", json=request, headers=headers).status_code == 422


def test_models_are_listed_with_what_they_can_do(client: httpx.Client) -> None:
    post(client, "bob/words")
    tune, words, late = client.get("/models").json()["results"]
    assert [model["name"] for model in (tune, words, late)] == ["ann/tune", "bob/words", "bob/late"]
    assert [model["is_default"] for model in (tune, words, late)] == [True, False, False]
    assert [model["versions"] for model in (tune, words, late)] == [["1.0"], [WORDS.version], []]
    assert [model["workers"] for model in (tune, words, late)] == [1, 1, 0]
    assert late["abilities"] is None
    assert tune["abilities"] == {
        "melody": True,
        "continuation": True,
        "multi_band_diffusion": True,
        "channels": 1,
        "sample_rate": 32000,
        "max_duration": 30,
    }
    assert (tune["defaults"]["duration"], words["defaults"]["duration"]) == (12, 8)
    assert tune["defaults"]["classifier_free_guidance"] == 3
    wait_until(lambda: client.get("/models/bob/words").json()["queued"] == 1)
    assert client.get("/models/ann/tune").json() == tune
    missing = client.get("/models/eve/tune")
    assert missing.status_code == 404
    assert "eve/tune" in missing.json()["detail"]


def test_a_registry_that_is_wrong_stops_the_start(several: Settings) -> None:
    assert several.models is not None
    several.models.write_text("[[models]]")
    with pytest.raises(SystemExit, match="Wrong registry"), api_server(several):
        pass


def test_models_are_for_those_who_have_a_token(several: Settings) -> None:
    closed = Settings(**{**several.model_dump(), "api_tokens": "a-token-of-ann"})
    with api_server(closed) as address, httpx.Client(base_url=address, trust_env=False) as client:
        assert client.get("/models").status_code == client.get("/models/ann/tune").status_code == 401
