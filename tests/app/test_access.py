"""What is counted and logged of requests, and the API's health."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from predictions import token_file
from predictions.models.card import Announcement
from predictions.observability.metrics import REGISTRY, Exposition
from predictions.record import commands
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.tenants import Scope
from tests.app.conftest import CARD, api_server
from tests.servers import wait_until

REQUEST = {"input": {"prompt": "a secret prompt", "duration": 1}}


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_request_id_is_answered_kept_and_logged(
    client: httpx.Client, store: PredictionStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.access")
    answer = client.post("/predictions", json=REQUEST, headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == 202
    assert answer.headers["x-request-id"] == "mine-1"
    prediction = store.run(commands.get(answer.json()["id"]))
    assert (prediction.request_id, prediction.tenant) == ("mine-1", "anyone")
    # The client may have its answer before the line is written.
    wait_until(lambda: any(item.name == "app.access" for item in caplog.records))
    [line] = [item for item in caplog.records if item.name == "app.access"]
    shown = {name: value for name, value in line.__dict__["fields"].items() if name != "seconds"}
    assert shown == {
        "request_id": "mine-1",
        "tenant": "anyone",
        "prediction": prediction.id,
        "route": "/predictions",
        "method": "POST",
        "status": 202,
    }


@pytest.mark.parametrize("wrong", ["", "x" * 129, "two words", "t\tab"])
def test_an_id_that_is_none_is_replaced(client: httpx.Client, wrong: str) -> None:
    answer = client.get("/health/live", headers={"X-Request-ID": wrong})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/predictions/x", "/nowhere", "/predictions?limit=0"])
def test_errors_have_an_id_too(client: httpx.Client, path: str) -> None:
    assert client.get(path).headers["x-request-id"]


def test_requests_are_counted_by_the_templates_of_their_routes(client: httpx.Client) -> None:
    name, template = "musicgen_http_request_duration_seconds_count", "/predictions/{prediction_id}"
    paths = [
        ("GET", template, "404"),
        ("HEAD", template, "404"),
        ("GET", "unmatched", "404"),
        ("GET", "/models", "200"),
        ("GET", f"/v1{template}", "404"),
    ]
    before = [count(name, method=method, route=route, status=status) for method, route, status in paths]
    client.get("/predictions/nobody")
    client.head("/predictions/nobody")
    client.get("/nowhere/at/all")
    client.get("/models")
    client.get("/v1/predictions/nobody")

    def new() -> list[float]:
        after = [count(name, method=method, route=route, status=status) for method, route, status in paths]
        return [now - old for now, old in zip(after, before, strict=True)]

    wait_until(lambda: new() == [1] * len(paths))


@pytest.mark.parametrize(
    ("reason", "body", "headers"),
    [
        ("invalid_input", {"input": {"prompt": 1}}, {}),
        ("idempotency_mismatch", {"input": {"prompt": "other"}}, {"Idempotency-Key": "k"}),
        ("too_large", {"input": {"prompt": "x" * 100_000}}, {}),
    ],
)
def test_refusals_are_counted_by_reason(
    client: httpx.Client, reason: str, body: dict[str, object], headers: dict[str, str]
) -> None:
    client.post("/predictions", json=REQUEST, headers={"Idempotency-Key": "k"})
    labels = {"route": "/predictions", "reason": reason}
    before = count("musicgen_http_requests_refused_total", **labels)
    assert client.post("/predictions", json=body, headers=headers).status_code >= 400
    wait_until(lambda: count("musicgen_http_requests_refused_total", **labels) == before + 1)


def test_health_says_whether_redis_takes_writes(client: httpx.Client, store: PredictionStore) -> None:
    for path in ("live", "ready", "startup"):
        assert client.get(f"/health/{path}").json() == {"status": "ok", "wrong": {}}


def test_without_redis_the_process_lives_and_is_not_ready(settings: Settings, tmp_path: Path) -> None:
    alone = settings.model_copy(update={"redis_url": f"unix://{tmp_path / 'nobody.sock'}"})
    with api_server(alone) as address, httpx.Client(base_url=address, trust_env=False) as client:
        assert client.get("/health/live").status_code == 200
        for path in ("ready", "startup"):
            answer = client.get(f"/health/{path}")
            assert (answer.status_code, answer.json()["wrong"]) == (503, {"Redis": "does not answer"})


@pytest.fixture
def closed(settings: Settings, tmp_path: Path) -> Iterator[tuple[httpx.Client, Callable[..., dict[str, str]]]]:
    path = tmp_path / "tokens.json"

    def make(*scopes: Scope) -> dict[str, str]:
        with token_file.changing(path) as file:
            return {"Authorization": f"Bearer {file.add('ann', scopes=list(scopes))}"}

    make(Scope.READ)
    changed = settings.model_copy(update={"tokens_file": path})
    with (
        api_server(changed, exposition=Exposition()) as address,
        httpx.Client(base_url=address, trust_env=False) as client,
    ):
        yield client, make


def test_metrics_are_for_an_admins_token(closed: tuple[httpx.Client, Callable[..., dict[str, str]]]) -> None:
    client, make = closed
    admin, reader = make(Scope.ADMIN), make(Scope.READ)
    # The file of tokens is looked at once a second.
    wait_until(lambda: client.get("/metrics", headers=admin).status_code == 200, every=0.1)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=reader).status_code == 403
    text = client.get("/metrics", headers=admin).text
    assert "musicgen_http_request_duration_seconds" in {item.name for item in text_string_to_metric_families(text)}


def test_without_tokens_the_public_address_shows_no_metrics(
    settings: Settings, announce: Callable[[Announcement], None]
) -> None:
    announce(CARD)
    with api_server(settings, exposition=Exposition()) as address:
        assert httpx.get(f"{address}/metrics", trust_env=False).status_code == 404
