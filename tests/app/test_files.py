"""What `input_audio` refers to."""

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


def test_a_data_uri_over_the_limit_is_refused(client: httpx.Client) -> None:
    uri = "data:audio/wav," + "x" * 110_000
    answer = client.post("/predictions", json={"input": {"input_audio": uri}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "input_audio"
