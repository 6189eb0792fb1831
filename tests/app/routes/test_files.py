"""Uploads of any size, and those that are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import httpx
import pytest

from predictions.models.card import Announcement
from predictions.settings import Settings
from tests.app.conftest import CARD, api_server


@pytest.fixture
def client(settings: Settings, announce: Callable[[Announcement], None]) -> Iterator[httpx.Client]:
    announce(CARD)
    small = settings.model_copy(update={"max_input_audio_mb": 0.1, "max_upload_mb": 1.0})
    with api_server(small) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client


def test_a_file_over_the_limit_is_refused(client: httpx.Client) -> None:
    answer = client.post("/files", files={"content": ("a.wav", b"x" * 1_050_000, "audio/wav")})
    assert answer.status_code == 413
    assert "1048576 bytes" in answer.json()["detail"]


def test_a_file_may_be_larger_than_input_audio_and_is_refused_as_such(client: httpx.Client) -> None:
    content = bytes(range(256)) * 2000
    answer = client.post("/files", files={"content": ("songs.zip", content, "application/zip")})
    assert answer.status_code == 201
    file = answer.json()
    assert (file["size"], file["etag"]) == (len(content), hashlib.sha256(content).hexdigest())
    refused = client.post("/predictions", json={"input": {"input_audio": file["urls"]["get"]}})
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert error == {
        "field": "input_audio", "message": "has 512000 bytes", "remedy": "send at most 104857 bytes"
    }  # fmt: skip


def test_an_empty_file_is_refused(client: httpx.Client) -> None:
    assert client.post("/files", files={"content": ("a.wav", b"", "audio/wav")}).status_code == 422
