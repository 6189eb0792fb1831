"""What the health check tells."""

from __future__ import annotations

import httpx

from predictions.models import announcements
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from tests.app.conftest import CARD


def test_health(client: httpx.Client) -> None:
    health = client.get("/health-check").json()
    assert health["status"] == "ready"
    assert health["model"]["name"] == CARD.name
    assert (health["workers"], health["webhook_workers"]) == (1, 1)


def test_health_tells_that_nobody_delivers_webhooks(client: httpx.Client, store: PredictionStore) -> None:
    store.run(announcements.withdraw("webhooks", queue=Queue.WEBHOOKS))
    health = client.get("/health-check").json()
    assert (health["status"], health["workers"], health["webhook_workers"]) == ("degraded", 1, 0)


def test_clients_see_the_card_and_not_what_the_estimates_need(client: httpx.Client, store: PredictionStore) -> None:
    before = client.get("/health-check").json()["model"]
    faster = CARD.model_copy(update={"frame_rate": 25, "delay_frames": 7})
    store.run(announcements.announce("worker", faster, 60.0, queue=Queue.GENERATION))
    assert client.get("/health-check").json()["model"] == before
    assert not {"frame_rate", "delay_frames"} & set(before)


def test_health_tells_which_models_have_workers(client_of_several: httpx.Client, store: PredictionStore) -> None:
    client = client_of_several
    request = {"input": {"prompt": "piano"}}
    client.post("/predictions", json=request)
    health = client.get("/health-check").json()
    assert health["status"] == "degraded"
    assert health["model"]["name"] == "ann/tune"
    assert health["models"] == [
        {"name": "ann/tune", "workers": 1, "queued": 1, "running": 0},
        {"name": "bob/words", "workers": 1, "queued": 0, "running": 0},
        {"name": "bob/late", "workers": 0, "queued": 0, "running": 0},
    ]
    for name in ("ann/tune", "bob/words"):
        store.run(announcements.withdraw("worker", queue=f"generation:{name}"))
    health = client.get("/health-check").json()
    assert (health["status"], health["workers"], health["queued"]) == ("no workers", 0, 1)
    assert client.post("/predictions", json=request).status_code == 202, (
        "what has been announced once is accepted, and waits"
    )
