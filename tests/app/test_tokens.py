"""Tenants and their tokens, over HTTP: what a token permits, until when, how often, and how much is kept for it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.main import create_app
from predictions import token_file
from predictions.models.card import Announcement
from predictions.record import commands
from predictions.record.prediction import Progress
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.tenants import Scope
from predictions.token_file import digest
from predictions.webhooks.signing import derived_key
from tests.app.conftest import CARD, api_server
from tests.conftest import SECRET
from tests.records import claim
from tests.servers import wait_until

REQUEST = {"input": {"prompt": "piano", "duration": 1}}
BOTH = [Scope.CREATE, Scope.READ]
PLAIN = "a-token-of-the-list"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.json"
    with token_file.changing(path):
        pass
    return path


@pytest.fixture
def make(path: Path) -> Callable[..., dict[str, str]]:
    """Make a token; returns the header that carries it."""

    def make(name: str = "ann", *scopes: Scope, **options: Any) -> dict[str, str]:
        with token_file.changing(path) as file:
            token = file.add(name, scopes=list(scopes or BOTH), **options)
        return {"Authorization": f"Bearer {token}"}

    return make


@pytest.fixture
def client(settings: Settings, path: Path, announce: Callable[[Announcement], None]) -> Iterator[httpx.Client]:
    """A client of an API whose file has no token yet, with a token in its list."""
    announce(CARD)
    closed = Settings(**{**settings.model_dump(), "api_tokens": PLAIN, "tokens_file": path})
    with api_server(closed) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client


def create(client: httpx.Client, headers: dict[str, str]) -> str:
    answer = client.post("/predictions", json=REQUEST, headers=headers)
    assert answer.status_code == 202, answer.text
    prediction_id: str = answer.json()["id"]
    return prediction_id


def upload(client: httpx.Client, headers: dict[str, str], size: int, path: str = "/files") -> httpx.Response:
    return client.post(path, files={"content": ("a.wav", b"x" * size, "audio/wav")}, headers=headers)


def status(client: httpx.Client, headers: dict[str, str], path: str = "/predictions") -> int:
    return client.get(path, headers=headers).status_code


def wait_for_status(client: httpx.Client, headers: dict[str, str], wanted: int) -> None:
    wait_until(lambda: status(client, headers) == wanted)


def test_the_file_is_read_again_while_the_api_runs(
    client: httpx.Client, path: Path, make: Callable[..., dict[str, str]]
) -> None:
    ann = make()
    wait_for_status(client, ann, 200)
    prediction = create(client, ann)
    bob = make("bob")
    wait_for_status(client, bob, 200)
    assert status(client, bob, f"/predictions/{prediction}") == 404
    # Another token of the same tenant sees the same.
    too = make("ann")
    wait_for_status(client, too, 200)
    assert status(client, too, f"/predictions/{prediction}") == 200
    # Edited by hand, in place.
    content = json.loads(path.read_text())
    del content["tenants"]["bob"]
    path.write_text(json.dumps(content))
    wait_for_status(client, bob, 401)
    with token_file.changing(path) as file:
        file.remove(ann["Authorization"].split("_")[1])
    wait_for_status(client, ann, 401)
    assert status(client, too) == 200


@pytest.mark.parametrize("broken", ["{", None])
def test_a_broken_file_leaves_things_as_they_were_and_says_so_once(
    client: httpx.Client,
    path: Path,
    make: Callable[..., dict[str, str]],
    caplog: pytest.LogCaptureFixture,
    broken: str | None,
) -> None:
    ann = make()
    wait_for_status(client, ann, 200)
    good = path.read_text()
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)

    def complaints() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]

    def is_said() -> bool:
        assert status(client, ann) == 200
        return bool(complaints())

    wait_until(is_said)
    [said] = complaints()
    assert said.startswith(f"The tokens stay as they were: {path}")
    path.write_text(good)
    bob = make("bob")
    wait_for_status(client, bob, 200)
    assert len(complaints()) == 1


@pytest.mark.parametrize("content", ["{", None])
def test_at_the_start_a_broken_file_stops(settings: Settings, path: Path, content: str | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(SystemExit, match=r"^Wrong setting: MUSICGEN_TOKENS_FILE: [^\n]*tokens.json[^\n]*$"):
        create_app(settings.model_copy(update={"tokens_file": path}))


def test_a_file_without_tokens_lets_nobody_in(settings: Settings, path: Path) -> None:
    with api_server(settings.model_copy(update={"tokens_file": path})) as address:
        answer = httpx.get(f"{address}/predictions", trust_env=False)
        document = httpx.get(f"{address}/openapi.json", trust_env=False).json()
    assert answer.status_code == 401
    assert document["paths"]["/predictions"]["get"]["security"]


def test_an_expired_token_is_told_so(client: httpx.Client, make: Callable[..., dict[str, str]]) -> None:
    old = make(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    live = make(expires_at=datetime.now(UTC) + timedelta(hours=1))
    wait_for_status(client, live, 200)
    answer = client.get("/predictions", headers=old)
    assert answer.status_code == 401
    assert "expired at" in answer.json()["detail"]
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_token_that_only_reads_changes_nothing(client: httpx.Client, make: Callable[..., dict[str, str]]) -> None:
    reader, ann = make("ann", Scope.READ), make("ann")
    wait_for_status(client, reader, 200)
    path = f"/predictions/{create(client, ann)}"
    assert status(client, reader, path) == 200
    for method, target in [
        ("POST", "/predictions"),
        ("POST", "/v1/predictions"),
        ("PUT", "/predictions/mine"),
        ("POST", f"{path}/cancel"),
        ("POST", f"{path}/rerun"),
        ("POST", f"{path}/webhook-deliveries/x/redeliver"),
        ("DELETE", path),
        ("POST", "/webhooks/secret/rotate"),
        # Who knows the secret can make webhooks.
        ("GET", "/webhooks/secret"),
        ("GET", "/v1/webhooks/default/secret"),
    ]:
        body = REQUEST if method in ("POST", "PUT") else None
        answer = client.request(method, target, headers=reader, json=body)
        assert (target, answer.status_code) == (target, 403)
        assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="create"'
        assert "its scopes are read. Use a token with the scope create" in answer.json()["detail"]
    assert upload(client, reader, 4).status_code == 403
    assert client.get(path, headers=ann).json()["status"] == "starting"


def test_a_token_that_only_creates_reads_nothing(client: httpx.Client, make: Callable[..., dict[str, str]]) -> None:
    creator = make("ann", Scope.CREATE)
    wait_for_status(client, creator, 403)
    path = f"/predictions/{create(client, creator)}"
    for target in ("/predictions", path, f"{path}/stream", f"{path}/audio", f"{path}/webhook-deliveries", "/v1/files"):
        assert (target, status(client, creator, target)) == (target, 403)
    assert client.post(f"{path}/cancel", headers=creator).json()["status"] == "canceled"
    # What is the same for everybody is read by whoever has a token.
    for target in ("/models", "/v1/models", "/v1/account", "/v1/hardware", "/webhooks/secret"):
        assert (target, status(client, creator, target)) == (target, 200)


def test_the_account_is_the_tenant(client: httpx.Client, make: Callable[..., dict[str, str]]) -> None:
    ann = make()
    wait_for_status(client, ann, 200)
    assert client.get("/v1/account", headers=ann).json()["username"] == "ann"
    listed = client.get("/v1/account", headers={"Authorization": f"Bearer {PLAIN}"}).json()["username"]
    assert listed.startswith("token-")
    assert listed.removeprefix("token-") not in digest(PLAIN)


def test_a_tenant_takes_over_what_a_token_of_the_list_owns(client: httpx.Client, path: Path) -> None:
    plain = {"Authorization": f"Bearer {PLAIN}"}
    prediction = create(client, plain)
    with token_file.changing(path) as file:
        token = file.add("ann", scopes=BOTH, tenant={"requests_per_second": 1000.0})
        file.tenants["ann"].owner = digest(PLAIN)[:32]
    ann = {"Authorization": f"Bearer {token}"}
    wait_for_status(client, ann, 200)
    assert status(client, ann, f"/predictions/{prediction}") == 200
    assert "ratelimit-limit" in client.get("/predictions", headers=plain).headers


def test_over_the_rate_changes_are_refused_and_reads_are_slowed(
    client: httpx.Client, make: Callable[..., dict[str, str]]
) -> None:
    ann, bob = make(tenant={"requests_per_second": 0.02}), make("bob")
    wait_for_status(client, bob, 200)
    first = client.post("/predictions", json=REQUEST, headers=ann)
    assert first.status_code == 202
    assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("1", "0")
    assert first.headers["ratelimit-reset"] == "50"
    for method, path in [("POST", "/predictions"), ("POST", "/v1/predictions"), ("DELETE", "/predictions/x")]:
        refused = client.request(method, path, json=REQUEST if method == "POST" else None, headers=ann)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 50
        assert refused.headers["ratelimit-remaining"] == "0"
        assert refused.json()["title"] == "Too many requests"
        assert "0.02 times a second" in refused.json()["detail"]
    # Whoever polls gets its answer, and every answer says how things stand.
    for path, wanted in [("/predictions", 200), (f"/v1/predictions/{first.json()['id']}", 200), ("/files/x", 404)]:
        polled = client.get(path, headers=ann)
        assert (polled.status_code, polled.headers["ratelimit-limit"]) == (wanted, "1")
    unlimited = client.post("/predictions", json=REQUEST, headers=bob)
    assert unlimited.status_code == 202
    assert not [name for name in unlimited.headers if name.startswith("ratelimit")]


def test_a_tenant_without_a_limit_costs_redis_nothing(
    client: httpx.Client, make: Callable[..., dict[str, str]], store: PredictionStore
) -> None:
    ann = make()
    wait_for_status(client, ann, 200)
    create(client, ann)
    assert store.redis.keys("musicgen:rate*") == []


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_what_is_kept_has_a_limit(
    client: httpx.Client, make: Callable[..., dict[str, str]], store: PredictionStore, prefix: str
) -> None:
    ann, bob = make(tenant={"stored_mb": 0.01}), make("bob")  # 10485 bytes
    wait_for_status(client, bob, 200)
    prediction = create(client, ann)
    kept = upload(client, ann, 10_000, f"{prefix}/files")
    assert kept.status_code == 201
    refused = upload(client, ann, 1_000, f"{prefix}/files")
    assert refused.status_code == 507
    assert "may take up 0.01 MB. Delete some by DELETE /files/ID" in refused.json()["detail"]
    data_uri = {"input": {"input_audio": "data:audio/wav;base64," + "AAAA" * 500}}
    assert client.post(f"{prefix}/predictions", json=data_uri, headers=ann).status_code == 507
    assert upload(client, bob, 1_000).status_code == 201
    # An output counts too; it may go beyond the limit, for nobody knows its size before.
    store.run(
        commands.succeed(
            prediction,
            claim(store, prediction, 30.0),
            output_key="k",
            metrics={},
            logs="",
            progress=Progress(1, 1),
            stored_bytes=500,
        )
    )
    assert client.post(f"{prefix}/predictions", json=REQUEST, headers=ann).status_code == 507
    assert client.delete(f"/predictions/{prediction}", headers=ann).status_code == 204
    assert client.post(f"{prefix}/predictions", json=REQUEST, headers=ann).status_code in (201, 202)
    assert client.delete(f"{prefix}/files/{kept.json()['id']}", headers=ann).status_code == 204
    assert upload(client, ann, 10_000).status_code == 201


def test_each_tenant_has_a_webhook_secret_and_rotates_it(
    client: httpx.Client, make: Callable[..., dict[str, str]]
) -> None:
    ann, bob, plain = make(), make("bob"), {"Authorization": f"Bearer {PLAIN}"}
    wait_for_status(client, bob, 200)
    before = [client.get("/webhooks/secret", headers=headers).json() for headers in (ann, bob, plain)]
    assert len({item["key"] for item in before} | {derived_key(SECRET)}) == 4
    assert before[0]["old_keys_until"] is None
    rotated = client.post("/webhooks/secret/rotate", headers=ann).json()
    assert rotated["key"] not in {item["key"] for item in before}
    assert datetime.fromisoformat(rotated["old_keys_until"]) > datetime.now(UTC) + timedelta(hours=23)
    assert client.get("/webhooks/secret", headers=ann).json() == rotated
    assert client.get("/v1/webhooks/default/secret", headers=ann).json() == {"key": rotated["key"]}
    assert client.get("/v1/webhooks/default/secret", headers=bob).json() == {"key": before[1]["key"]}


def everything_in_redis(store: PredictionStore) -> str:
    readers: dict[str, Callable[[str], Any]] = {
        "string": store.redis.get,
        "hash": store.redis.hgetall,
        "list": lambda key: store.redis.lrange(key, 0, -1),
        "set": store.redis.smembers,
        "zset": lambda key: store.redis.zrange(key, 0, -1, withscores=True),
        "stream": store.redis.xrange,
    }
    return "".join(f"{key} {readers[store.redis.type(key)](key)!r}\n" for key in store.redis.keys("*"))


def test_nothing_secret_is_logged_or_stored(
    settings: Settings,
    announce: Callable[[Announcement], None],
    path: Path,
    make: Callable[..., dict[str, str]],
    store: PredictionStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    announce(CARD)
    caplog.set_level(logging.DEBUG)
    ann = make(tenant={"requests_per_second": 50.0, "stored_mb": 1.0})
    old, plain = make("old", expires_at=datetime.now(UTC)), {"Authorization": f"Bearer {PLAIN}"}
    closed = Settings(**{**settings.model_dump(), "api_tokens": PLAIN, "tokens_file": path})
    secrets = [SECRET, derived_key(SECRET), PLAIN, digest(PLAIN)]
    with api_server(closed) as address, httpx.Client(base_url=address, trust_env=False) as client:
        for headers in (ann, plain, old, {"Authorization": "Bearer mg_wrong_andsecret"}):
            hooked = {**REQUEST, "webhook": "http://127.0.0.1:1/hook", "stream": True}
            client.post("/predictions", json=hooked, headers={**headers, "Idempotency-Key": "k"})
            client.post("/v1/predictions", json=REQUEST, headers=headers)
            client.post("/predictions", json={"input": {"promt": 1}}, headers=headers)
            client.get("/predictions", headers=headers)
            client.get("/predictions/none", headers=headers)
            upload(client, headers, 100)
            secrets.append(client.get("/webhooks/secret", headers=headers).json().get("key"))
            secrets.append(client.post("/webhooks/secret/rotate", headers=headers).json().get("key"))
            secrets.append(headers["Authorization"].removeprefix("Bearer "))
        make("bob")
        wait_until(lambda: client.get("/predictions", headers=ann) and "was read again" in caplog.text)
    secrets += token_file.read(path).holders()
    stored = everything_in_redis(store)
    assert "musicgen:prediction:" in stored
    assert "musicgen:rate" in stored
    assert "musicgen:webhook-secret:" in stored
    for secret in filter(None, secrets):
        assert secret not in stored
        assert secret not in caplog.text
        # A half of a token is a secret too. Of a hash of the list, a half stands for its owner.
        if secret.startswith("mg_"):
            assert secret.split("_")[2][:8] not in stored + caplog.text
