"""What `input_audio` refers to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from predictions.errors import StorageError
from predictions.models.card import Announcement
from predictions.settings import Settings
from predictions.storage.local import LocalStorage
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


def stored(settings: Settings) -> list[str]:
    return [path.name for path in (settings.data_dir / "objects" / "files").rglob("content")]


def test_a_repeated_request_keeps_no_second_copy_of_its_audio(client: httpx.Client, settings: Settings) -> None:
    body = {"input": {"input_audio": "data:audio/wav,sound", "seed": 1}}
    first = client.post("/predictions", json=body, headers={"Idempotency-Key": "k"}).json()
    assert client.post("/predictions", json=body, headers={"Idempotency-Key": "k"}).json()["id"] == first["id"]
    assert len(stored(settings)) == 1
    other = {"input": {"input_audio": "data:audio/wav,another", "seed": 1}}
    assert client.post("/predictions", json=other, headers={"Idempotency-Key": "k"}).status_code == 422
    assert len(stored(settings)) == 1


def test_an_upload_that_could_not_be_stored_is_not_listed(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", full)
        answer = client.post("/v1/files", files={"content": ("a.wav", b"sound", "audio/wav")})
        assert answer.status_code == 503
    assert client.get("/v1/files").json()["results"] == []
