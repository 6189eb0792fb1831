"""Uploads that are refused."""

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


def test_a_file_over_the_limit_is_refused(client: httpx.Client) -> None:
    answer = client.post("/files", files={"content": ("a.wav", b"x" * 110_000, "audio/wav")})
    assert answer.status_code == 413
    assert "104857 bytes" in answer.json()["detail"]


def test_an_empty_file_is_refused(client: httpx.Client) -> None:
    assert client.post("/files", files={"content": ("a.wav", b"", "audio/wav")}).status_code == 422
