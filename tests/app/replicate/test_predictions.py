"""Predictions through Replicate's own Python client."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
import replicate
from replicate.exceptions import ReplicateError

from predictions.models.card import Announcement
from predictions.settings import Settings
from tests.app.conftest import CARD, api_server


@pytest.fixture
def client(settings: Settings, announce: Callable[[Announcement], None]) -> Iterator[httpx.Client]:
    announce(CARD)
    closed = Settings(**{**settings.model_dump(), "api_tokens": "ann-has-a-token,bob-has-a-token"})
    with api_server(closed) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client


@pytest.fixture
def connections() -> Iterator[httpx.HTTPTransport]:
    """The connections of Replicate's clients, which have no public way to close them."""
    with httpx.HTTPTransport() as transport:
        yield transport


def test_replicates_client_sees_what_its_token_owns(client: httpx.Client, connections: httpx.HTTPTransport) -> None:
    def client_of(token: str) -> replicate.Client:
        return replicate.Client(api_token=token, base_url=str(client.base_url), trust_env=False, transport=connections)

    ann, bob, nobody = (client_of(token) for token in ("ann-has-a-token", "bob-has-a-token", "wrong-token"))
    made = ann.predictions.create(version=CARD.version, input={"prompt": "piano"})
    assert [item.id for item in ann.predictions.list().results] == [made.id]
    assert bob.predictions.list().results == []
    for other, status in ((bob, 404), (nobody, 401)):
        for refused in (other.predictions.get, other.predictions.cancel):
            with pytest.raises(ReplicateError) as error:
                refused(made.id)
            assert error.value.status == status


def test_the_older_form_of_a_webhook_is_checked_like_the_newer(client: httpx.Client) -> None:
    headers = {"Authorization": "Bearer ann-has-a-token"}
    for name in ("webhook", "webhook_completed"):
        body = {"version": CARD.version, "input": {"prompt": "piano"}, name: "http://10.0.0.1/"}
        assert client.post("/v1/predictions", json=body, headers=headers).status_code == 422
