"""Estimates as a client of the API sees them; no worker runs, its measurements are given to the store directly."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from predictions.estimates import throughput
from predictions.record import commands
from predictions.record.prediction import Progress
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from tests.app.conftest import CARD
from tests.records import claim
from tests.servers import wait_until


@pytest.fixture
def measured(store: PredictionStore) -> None:
    """A hundredth of a second for a step, a tenth for a second's sound."""
    store.run(throughput.measured_steps(Queue.GENERATION, CARD.version, together=1, step_seconds=0.01))
    store.run(throughput.measured_other(Queue.GENERATION, CARD.version, seconds=0.1, diffusion=False))


def post(client: httpx.Client, **value: Any) -> dict[str, Any]:
    answer = client.post("/predictions", json={"input": {"prompt": "piano", **value}})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.usefixtures("measured")
def test_whoever_waits_is_told_when(client: httpx.Client, store: PredictionStore) -> None:
    first = post(client, duration=10)
    assert first["estimate"] == {"start_seconds": 0.0, "finish_seconds": pytest.approx(6.03, abs=0.1)}
    ids = [post(client, duration=10)["id"] for _ in range(9)]
    last = client.get(f"/predictions/{ids[-1]}").json()
    # Eight are held at a time and four decoded together; a step that four share takes longer.
    assert last["estimate"]["start_seconds"] > 7
    assert last["estimate"]["finish_seconds"] > last["estimate"]["start_seconds"] + 5
    [newest, *_] = client.get("/predictions").json()["results"]
    assert newest["estimate"]["finish_seconds"] == pytest.approx(last["estimate"]["finish_seconds"], abs=1)
    attempt = claim(store, first["id"], 60)
    done = Progress(1, 1)
    assert store.run(commands.succeed(first["id"], attempt, output_key="k", metrics={}, logs="", progress=done))
    assert client.get(f"/predictions/{first['id']}").json()["estimate"] is None


@pytest.mark.usefixtures("measured")
def test_an_estimate_grows_less_as_time_goes_by(client: httpx.Client) -> None:
    body = post(client, duration=10)

    def estimate() -> float:
        seconds: float = client.get(body["urls"]["get"]).json()["estimate"]["finish_seconds"]
        return seconds

    assert estimate() > 5.5
    wait_until(lambda: estimate() < body["estimate"]["finish_seconds"])


def test_nothing_is_estimated_where_nothing_is_known(client: httpx.Client) -> None:
    assert post(client)["estimate"] is None
