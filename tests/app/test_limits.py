"""Bodies that are too large are refused before they fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from predictions.models.card import Announcement
from predictions.settings import Settings
from tests.app.conftest import CARD, api_server


@pytest.fixture
def client(settings: Settings, announce: Callable[[Announcement], None]) -> Iterator[httpx.Client]:
    announce(CARD)
    small = settings.model_copy(update={"max_input_audio_mb": 0.1})
    with api_server(small) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client


def chunks() -> Iterator[bytes]:
    """A body that does not tell its length."""
    for _ in range(64):
        yield b" " * 8192


def test_a_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    for content in (b" " * 500_000, chunks()):
        answer = client.post("/predictions", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413


def test_a_file_over_the_limit_is_refused(client: httpx.Client) -> None:
    answer = client.post("/files", files={"content": ("a.wav", b"x" * 110_000, "audio/wav")})
    assert answer.status_code == 413
    assert "104857 bytes" in answer.json()["detail"]


def test_a_data_uri_over_the_limit_is_refused(client: httpx.Client) -> None:
    uri = "data:audio/wav," + "x" * 110_000
    answer = client.post("/predictions", json={"input": {"input_audio": uri}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "input_audio"


def test_an_empty_file_is_refused(client: httpx.Client) -> None:
    assert client.post("/files", files={"content": ("a.wav", b"", "audio/wav")}).status_code == 422
