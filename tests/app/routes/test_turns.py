"""Priority, deadlines and a tenant's limits as a client of the API sees them; no worker runs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.routes.parameters import deadline_seconds
from app.tokens import Tokens
from predictions.errors import InvalidInput
from predictions.record import commands
from predictions.record.schema import Keys, Queue
from predictions.record.store import PredictionStore
from predictions.tenants import Limits, Tenant
from tests.app.conftest import CARD
from tests.records import claim

PIANO: dict[str, Any] = {"input": {"prompt": "piano", "duration": 8}}


def limit(monkeypatch: pytest.MonkeyPatch, limits: Limits) -> None:
    """Have these limits hold for everybody."""
    monkeypatch.setattr(Tokens, "tenant_of", lambda _tokens, owner: Tenant(owner, owner, limits=limits))


def places(client: httpx.Client) -> dict[str, int]:
    """Everything that waits, with its place."""
    return {body["id"]: body["queue_position"] for body in client.get("/predictions").json()["results"]}


def test_a_higher_priority_goes_before(client: httpx.Client, store: PredictionStore) -> None:
    for name, priority in (("old", None), ("low", -10), ("high", 10), ("new", 0)):
        body = PIANO if priority is None else {**PIANO, "priority": priority}
        assert client.put(f"/predictions/{name}", json=body).status_code == 202
    assert places(client) == {"high": 0, "old": 1, "new": 2, "low": 3}
    again = client.put("/predictions/high", json={**PIANO, "priority": 10})
    assert (again.status_code, again.json()["queue_position"]) == (202, 0)
    taken = claim(store, "high", 60)
    assert store.run(commands.fail("high", taken, error="e", logs=""))
    urgent = client.post("/predictions/high/rerun", json={"priority": 9}).json()
    assert (urgent["queue_position"], urgent["rerun_of"]) == (0, "high")


@pytest.mark.parametrize("priority", [11, -11, 1.5, "1", True, None])
def test_a_priority_is_a_small_integer(client: httpx.Client, priority: object) -> None:
    for path in ("/predictions", "/predictions/none/rerun"):
        body = {**PIANO, "priority": priority} if path == "/predictions" else {"priority": priority}
        answer = client.post(path, json=body)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "priority"


def test_replicates_routes_know_no_priority(client: httpx.Client) -> None:
    for n in range(2):
        answer = client.post("/v1/predictions", json={**PIANO, "version": CARD.version, "priority": 10 * n})
        assert (answer.status_code, answer.json()["queue_position"]) == (201, n)


ROUTES = (
    ("POST", "/predictions", PIANO),
    ("PUT", "/predictions/own", PIANO),
    ("POST", "/predictions/ended/rerun", {}),
    ("POST", "/v1/predictions", {**PIANO, "version": CARD.version}),
    ("POST", f"/v1/models/{CARD.name}/predictions", PIANO),
    ("POST", f"/v1/deployments/{CARD.name}/predictions", PIANO),
)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=[path for _, path, _ in ROUTES])
def test_every_route_takes_a_deadline(
    client: httpx.Client, store: PredictionStore, method: str, path: str, body: dict[str, Any]
) -> None:
    client.put("/predictions/ended", json=PIANO)
    client.post("/predictions/ended/cancel")
    wrong = client.request(method, path, json=body, headers={"Cancel-After": "4s"})
    assert wrong.status_code == 422, wrong.text
    assert wrong.json()["errors"][0]["field"] == "Cancel-After"
    assert 'is "4s": send a duration of 5 seconds to 24 hours, such as 90s' in wrong.json()["detail"]
    assert not store.redis.exists(Keys.waiting(Queue.GENERATION))
    made = client.request(method, path, json=body, headers={"Cancel-After": "1m30s"}).json()
    created = store.run(commands.get(made["id"])).created_at.timestamp()
    assert store.redis.zscore(Keys.deadlines(), made["id"]) == pytest.approx(created + 90, abs=0.001)
    store.redis.zadd(Keys.deadlines(), {made["id"]: 1.0})
    assert store.run(commands.cancel_overdue()) == 1
    ended = client.get(f"/predictions/{made['id']}").json()
    assert ended["status"] == "canceled"
    assert "deadline" in ended["error"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("90", 90), ("90s", 90), ("1m30s", 90), ("1h", 3600), ("1h1m1s", 3661), ("1d", 86400), (" 5s ", 5)],
)
def test_durations(text: str, seconds: int) -> None:
    assert deadline_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "4s", "0", "s", "-5s", "5.5s", "5 s", "5x", "1s1m", "24h1s", "2d", "٥s", "9" * 40]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        deadline_seconds(text)


def test_without_a_header_there_is_no_deadline() -> None:
    assert deadline_seconds(None) is None


def test_a_tenant_with_too_many_waiting_is_told_to_wait(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, Limits(waiting=2))
    ids = {client.post("/predictions", json=PIANO).json()["id"] for _ in range(2)}
    for path in ("/predictions", "/v1/predictions"):
        refused = client.post(path, json={**PIANO, "version": CARD.version})
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        assert "2 predictions of this token wait" in refused.json()["detail"]
    assert places(client).keys() == ids
    client.post(f"/predictions/{min(ids)}/cancel")
    assert client.post("/predictions", json=PIANO).status_code == 202


def test_a_tenant_that_has_had_its_music_is_told_when_there_is_more(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, Limits(seconds_a_day=20))
    headers = {"Idempotency-Key": "k"}
    assert [client.post("/predictions", json=PIANO, headers=headers).status_code for _ in range(3)] == [202] * 3
    assert client.post("/predictions", json=PIANO).status_code == 202
    refused = client.post("/predictions", json=PIANO)
    assert refused.status_code == 429
    assert 23 * 3600 <= int(refused.headers["Retry-After"]) <= 24 * 3600
    assert "20 seconds of music in 24 hours" in refused.json()["detail"]
    never = client.post("/predictions", json={"input": {"prompt": "piano", "duration": 21}})
    assert (never.status_code, never.json()["errors"][0]["field"]) == (422, "duration")
    assert client.post("/predictions", json={"input": {"prompt": "piano", "duration": 4}}).status_code == 202
