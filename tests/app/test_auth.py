"""Tokens: who is let in, and what each of them sees."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import httpx
import pytest

from predictions.models.card import Announcement
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from tests.app.conftest import CARD, api_server

ANN, BOB = {"Authorization": "Bearer ann-has-a-token"}, {"Authorization": "Bearer bob-has-a-token"}
REQUEST = {"input": {"prompt": "piano"}}


@pytest.fixture
def client(settings: Settings, announce: Callable[[Announcement], None]) -> Iterator[httpx.Client]:
    announce(CARD)
    closed = Settings(**{**settings.model_dump(), "api_tokens": "ann-has-a-token,bob-has-a-token"})
    with api_server(closed) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("document", ["/openapi.json", "/v1/openapi.json"])
def test_every_operation_asks_for_a_token(client: httpx.Client, document: str) -> None:
    paths = client.get(document).json()["paths"]
    for path, operations in paths.items():
        for method in operations:
            answer = client.request(method, re.sub(r"{\w+}", "x", path), json=REQUEST if method == "post" else None)
            assert answer.status_code == (200 if path.startswith("/health") else 401), path
            assert path.startswith("/v1/") == (document != "/openapi.json")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong-token"}, {"Authorization": "Basic YTpi"}])
def test_without_a_valid_token_nobody_is_let_in(client: httpx.Client, headers: dict[str, str]) -> None:
    for method, path in [
        ("POST", "/predictions"),
        ("GET", "/predictions"),
        ("GET", "/predictions/x"),
        ("POST", "/files"),
    ]:
        answer = client.request(method, path, headers=headers, json=REQUEST if method == "POST" else None)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"


def test_health_and_documentation_are_open(client: httpx.Client) -> None:
    assert client.get("/health-check").status_code == 200
    assert client.get("/openapi.json").status_code == 200


def test_a_token_sees_only_its_own(client: httpx.Client) -> None:
    mine = client.post("/predictions", json=REQUEST, headers=ANN).json()
    path = f"/predictions/{mine['id']}"
    assert client.get(path, headers=ANN).status_code == 200
    for method, target in [("GET", path), ("POST", f"{path}/cancel"), ("DELETE", path)]:
        assert client.request(method, target, headers=BOB).status_code == 404
    assert client.get("/predictions", headers=BOB).json()["results"] == []
    assert client.get(path, headers=ANN).json()["status"] == "starting"


def test_the_token_itself_is_not_stored(client: httpx.Client, store: PredictionStore) -> None:
    client.post("/predictions", json=REQUEST, headers=ANN)
    everything = "".join(
        key + repr(store.redis.hgetall(key) if store.redis.type(key) == "hash" else "") for key in store.redis.keys("*")
    )
    assert "musicgen:prediction:" in everything
    assert "ann-has-a-token" not in everything


def test_uploaded_files_are_their_owners(client: httpx.Client) -> None:
    file = client.post("/files", files={"content": ("a.wav", b"RIFF", "audio/wav")}, headers=ANN).json()
    assert file["size"] == 4
    request = {"input": {"input_audio": file["urls"]["get"]}}
    assert client.post("/predictions", json=request, headers=ANN).status_code == 202
    assert client.post("/predictions", json=request, headers=BOB).status_code == 404
    assert client.delete(file["urls"]["get"], headers=BOB).status_code == 404
    assert client.delete(file["urls"]["get"], headers=ANN).status_code == 204
    assert client.get(file["urls"]["get"], headers=ANN).status_code == 404
