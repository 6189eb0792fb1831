"""Create, read, list, cancel and delete, as a client does it; no worker runs, so everything waits."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from predictions.models.card import Announcement
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from tests.app.conftest import CARD, api_server
from tests.servers import wait_until

PROBLEM = "application/problem+json"


def test_a_prediction_is_accepted_and_waits(client: httpx.Client) -> None:
    answer = client.post("/predictions", json={"input": {"prompt": "piano"}})
    assert answer.status_code == 202
    body = answer.json()
    assert body["status"] == "starting"
    assert body["queue_position"] == 0
    assert body["output"] is None
    assert body["version"] == CARD.version
    assert body["input"]["duration"] == 8
    assert body["input"]["normalization_strategy"] == "loudness"
    assert 0 <= body["input"]["seed"] < 2**32
    assert client.get(body["urls"]["get"]).json() == body


def test_a_given_seed_is_kept(client: httpx.Client) -> None:
    for seed in (0, 2**32 - 1):
        body = client.post("/predictions", json={"input": {"prompt": "piano", "seed": seed}}).json()
        assert body["input"]["seed"] == seed


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": ""},
        {"prompt": "piano", "continuation_end": -1},
        {"prompt": "piano", "temperature": 0},
        {"prompt": "piano", "top_k": 0},
        {"prompt": "piano", "top_k": 100_000},
        {"prompt": "piano", "top_p": 1},
        {"prompt": "piano", "classifier_free_guidance": 0},
        {"prompt": "piano", "duration": 30},
        {"prompt": "piano", "seed": -1},
        {"prompt": "piano", "output_format": "mp3"},
        {"input_audio": "https://example.com/a.mp3"},
        {"input_audio": "data:audio/wav;base64,UklGRg==", "continuation": True, "continuation_mode": "total"},
    ],
)
def test_what_the_schema_allows_is_accepted(client: httpx.Client, value: dict[str, object]) -> None:
    assert client.post("/predictions", json={"input": value}).status_code == 202


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", {}),
        ("prompt", {"prompt": "x" * 2001}),
        ("continuation", {"prompt": "piano", "continuation": True}),
        ("continuation_end", {"prompt": "piano", "continuation_start": 4, "continuation_end": 4}),
        ("continuation_end", {"prompt": "piano", "continuation_start": 4, "continuation_end": 2}),
        ("continuation_end", {"prompt": "piano", "continuation_end": -2}),
        ("continuation_start", {"prompt": "piano", "continuation_start": -1}),
        ("duration", {"prompt": "piano", "duration": 0}),
        ("duration", {"prompt": "piano", "duration": 31}),
        ("duration", {"prompt": "piano", "duration": "8"}),
        (
            "duration",
            {"prompt": "piano", "duration": 30, "continuation": True, "input_audio": "https://example.com/a"},
        ),
        ("multi_band_diffusion", {"prompt": "piano", "multi_band_diffusion": True}),
        ("normalization_strategy", {"prompt": "piano", "normalization_strategy": "loud"}),
        ("top_k", {"prompt": "piano", "top_k": -1}),
        ("top_p", {"prompt": "piano", "top_p": 1.1}),
        ("top_p", {"prompt": "piano", "top_p": -0.1}),
        ("temperature", {"prompt": "piano", "temperature": -0.1}),
        ("classifier_free_guidance", {"prompt": "piano", "classifier_free_guidance": -1}),
        ("output_format", {"prompt": "piano", "output_format": "ogg"}),
        ("seed", {"prompt": "piano", "seed": 2**32}),
        ("seed", {"prompt": "piano", "seed": -2}),
        ("tempo", {"prompt": "piano", "tempo": 120}),
        ("input_audio", {"input_audio": "file:///etc/passwd"}),
        ("input_audio", {"input_audio": "http://10.0.0.1/a.wav"}),
        ("input_audio", {"input_audio": "http://0xa9fea9fe/latest"}),
        ("input_audio", {"input_audio": "data:audio/wav;base64,!!!"}),
        ("input_audio", {"input_audio": "data:audio/wav;base64,"}),
    ],
)
def test_what_is_wrong_is_refused_by_name_before_anything_is_queued(
    client: httpx.Client, store: PredictionStore, field: str, value: dict[str, object]
) -> None:
    answer = client.post("/predictions", json={"input": value})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert [error["field"] for error in body["errors"]] == [field]
    assert all(error["message"] and error["remedy"] for error in body["errors"])
    assert field in body["detail"]
    assert body["status"] == 422
    assert body["instance"] == "/predictions"
    assert store.redis.llen("generation") == 0


def test_several_wrong_fields_are_all_named(client: httpx.Client) -> None:
    body = client.post("/predictions", json={"input": {"duration": 0, "top_p": 2, "x": 1}}).json()
    assert {error["field"] for error in body["errors"]} == {"duration", "top_p", "x"}


def wait_for_version(client: httpx.Client, version: str) -> None:
    """The API may know the model announced before for another second."""
    body = {"input": {"prompt": "piano"}, "version": version}
    wait_until(lambda: client.post("/predictions", json=body).status_code == 202)


def test_what_the_model_cannot_do_is_refused(client: httpx.Client, announce: Callable[[Announcement], None]) -> None:
    announce(CARD.model_copy(update={"melody": False, "max_duration": 10, "version": "w"}))
    wait_for_version(client, "w")
    melody = client.post("/predictions", json={"input": {"input_audio": "https://example.com/a.mp3"}})
    assert [error["field"] for error in melody.json()["errors"]] == ["input_audio"]
    long = client.post("/predictions", json={"input": {"prompt": "piano", "duration": 11}})
    assert [error["field"] for error in long.json()["errors"]] == ["duration"]
    continued = {"input_audio": "https://example.com/a.mp3", "continuation": True}
    assert client.post("/predictions", json={"input": continued}).status_code == 202


def test_multi_band_diffusion_is_taken_where_the_model_has_it(
    client: httpx.Client, announce: Callable[[Announcement], None]
) -> None:
    announce(CARD.model_copy(update={"multi_band_diffusion": True, "version": "w"}))
    wait_for_version(client, "w")
    asked = {"input": {"prompt": "piano", "multi_band_diffusion": True}}
    assert client.post("/predictions", json=asked).status_code == 202


def test_longer_than_30_seconds_where_the_operator_allows_it(
    settings: Settings, announce: Callable[[Announcement], None]
) -> None:
    announce(CARD.model_copy(update={"max_duration": 120}))
    allowed = settings.model_copy(update={"max_duration": 120})
    with api_server(allowed) as address, httpx.Client(base_url=address, trust_env=False) as client:
        for seconds, status in ((120, 202), (121, 422)):
            answer = client.post("/predictions", json={"input": {"prompt": "piano", "duration": seconds}})
            assert answer.status_code == status
    assert answer.json()["errors"] == [
        {"field": "duration", "message": "is 121", "remedy": "it should be less than or equal to 120"}
    ]


def test_another_version_is_refused(client: httpx.Client) -> None:
    answer = client.post("/predictions", json={"input": {"prompt": "piano"}, "version": "nope"})
    assert answer.status_code == 422
    assert CARD.version in answer.json()["errors"][0]["remedy"]


def test_nothing_is_accepted_until_there_is_a_model(
    settings: Settings, announce: Callable[[Announcement], None]
) -> None:
    with api_server(settings) as address, httpx.Client(base_url=address, trust_env=False) as client:
        answer = client.post("/predictions", json={"input": {"prompt": "piano"}})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert client.get("/health-check").json()["status"] == "no workers"
        announce(CARD)
        assert client.post("/predictions", json={"input": {"prompt": "piano"}}).status_code == 202


def test_put_creates_once(client: httpx.Client, store: PredictionStore) -> None:
    request = {"input": {"prompt": "piano"}}
    first = client.put("/predictions/my-own_id", json=request)
    again = client.put("/predictions/my-own_id", json=request)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert first.json()["id"] == "my-own_id"
    assert store.redis.llen("generation") == 1
    other = client.put("/predictions/my-own_id", json={"input": {"prompt": "drums"}})
    assert other.status_code == 409
    assert client.put("/predictions/bad.id", json=request).status_code == 422


def test_an_idempotency_key_creates_once(client: httpx.Client, store: PredictionStore) -> None:
    headers = {"Idempotency-Key": "k1"}
    request = {"input": {"prompt": "piano"}}
    ids = {client.post("/predictions", json=request, headers=headers).json()["id"] for _ in range(3)}
    assert len(ids) == 1
    assert store.redis.llen("generation") == 1
    other = client.post("/predictions", json={"input": {"prompt": "drums"}}, headers=headers)
    assert other.status_code == 422


def test_pages_are_followed_to_the_end(client: httpx.Client) -> None:
    ids = [client.post("/predictions", json={"input": {"prompt": str(n)}}).json()["id"] for n in range(5)]
    seen, url = [], "/predictions?limit=2"
    while url:
        page = client.get(url).json()
        assert page["previous"] is None
        seen += [item["id"] for item in page["results"]]
        url = page["next"]
    assert seen == ids[::-1]
    assert client.get("/predictions?cursor=nonsense").status_code == 422


def test_cancel_and_delete(client: httpx.Client, store: PredictionStore) -> None:
    body = client.post("/predictions", json={"input": {"prompt": "piano"}}).json()
    canceled = client.post(body["urls"]["cancel"]).json()
    assert canceled["status"] == "canceled"
    assert canceled["completed_at"] is not None
    assert client.post(body["urls"]["cancel"]).json() == canceled
    assert client.delete(body["urls"]["get"]).status_code == 204
    missing = client.get(body["urls"]["get"])
    assert missing.status_code == 404
    assert missing.headers["content-type"] == PROBLEM
    assert client.delete(body["urls"]["get"]).status_code == 404


def test_without_redis_the_api_says_so_and_accepts_nothing(settings: Settings) -> None:
    lost = settings.model_copy(update={"redis_url": "unix:///nowhere/redis.sock"})
    with api_server(lost) as address, httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        answer = client.post("/predictions", json={"input": {"prompt": "piano"}})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert client.get("/health-check").status_code == 503


def test_a_body_that_is_not_json_is_refused(client: httpx.Client) -> None:
    answer = client.post("/predictions", content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == PROBLEM
