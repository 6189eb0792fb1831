"""Webhook deliveries through the API: listed and sent again by who owns the prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from predictions.models.card import Announcement
from predictions.record.schema import Verdict
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.webhooks import deliveries
from tests.app.conftest import CARD, api_server
from tests.records import claim

ANN, BOB = {"Authorization": "Bearer ann-has-a-token"}, {"Authorization": "Bearer bob-has-a-token"}


@pytest.fixture
def client(settings: Settings, announce: Callable[[Announcement], None]) -> Iterator[httpx.Client]:
    announce(CARD)
    closed = Settings(**{**settings.model_dump(), "api_tokens": "ann-has-a-token,bob-has-a-token"})
    with api_server(closed) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client


@pytest.fixture
def failed(client: httpx.Client, store: PredictionStore) -> str:
    """The path of the deliveries of a prediction whose start was answered with 500, for good."""
    body = {"input": {"prompt": "piano"}, "webhook": "http://127.0.0.1:1/hook"}
    prediction_id = client.post("/predictions", json=body, headers=ANN).json()["id"]
    claim(store, prediction_id, 30.0)
    [due] = store.run(deliveries.due())
    begun = store.run(deliveries.begin(due, "token"))
    assert begun is not None
    store.run(deliveries.end(begun, Verdict.FAILED, status=500, error=None, seconds=0.25))
    return f"/predictions/{prediction_id}/webhook-deliveries"


def results(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    answer = client.get(path, headers=ANN)
    assert answer.status_code == 200
    listed: list[dict[str, Any]] = answer.json()["results"]
    return listed


def test_deliveries_are_listed_with_their_attempts(client: httpx.Client, failed: str) -> None:
    [delivery] = results(client, failed)
    assert delivery["id"] == f"{failed.split('/')[2]}-start"
    assert (delivery["event"], delivery["state"], delivery["next_attempt_at"]) == ("start", "failed", None)
    [attempt] = delivery["attempts"]
    assert (attempt["number"], attempt["status"], attempt["error"], attempt["seconds"]) == (1, 500, None, 0.25)


def test_a_delivery_is_sent_again(client: httpx.Client, failed: str) -> None:
    [delivery] = results(client, failed)
    answer = client.post(f"{failed}/{delivery['id']}/redeliver", headers=ANN)
    assert answer.status_code == 202
    assert answer.json()["state"] == "pending"
    assert results(client, failed) == [answer.json()]


def test_nobody_sees_or_sends_anothers(client: httpx.Client, failed: str) -> None:
    [delivery] = results(client, failed)
    for method, path in [("GET", failed), ("POST", f"{failed}/{delivery['id']}/redeliver")]:
        assert client.request(method, path, headers=BOB).status_code == 404
        assert client.request(method, path).status_code == 401


def test_an_unknown_delivery_is_a_problem_with_words(client: httpx.Client, failed: str) -> None:
    answer = client.post(f"{failed}/other-start/redeliver", headers=ANN)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "This prediction has no webhook delivery other-start."
    assert client.post(f"{failed}/a.b/redeliver", headers=ANN).status_code == 422


@pytest.mark.parametrize("events", [[], ["started"]])
def test_unknown_events_are_refused(client: httpx.Client, events: list[str]) -> None:
    body = {"input": {"prompt": "x"}, "webhook": "http://127.0.0.1:1/", "webhook_events_filter": events}
    answer = client.post("/predictions", json=body, headers=ANN)
    assert answer.status_code == 422
    assert "webhook_events_filter" in answer.json()["errors"][0]["field"]
