"""Reruns as a client of the API sees them; no worker runs, its commands are given to the store directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from predictions.models import announcements
from predictions.models.card import Announcement
from predictions.record import commands
from predictions.record.prediction import Progress, Provenance
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from tests.app.conftest import CARD, api_server
from tests.records import claim
from tests.servers import wait_until

AUDIO = "https://example.com/a.mp3"


def post(client: httpx.Client, **value: Any) -> dict[str, Any]:
    answer = client.post("/predictions", json={"input": {"prompt": "piano", **value}})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def rerun(client: httpx.Client, prediction_id: str, **body: Any) -> httpx.Response:
    return client.post(f"/predictions/{prediction_id}/rerun", json=body or None)


def end(store: PredictionStore, prediction_id: str, *, audio: str | None = None) -> None:
    """It succeeds, with audio of this SHA-256."""
    attempt = claim(store, prediction_id, 60)
    succeeded = commands.succeed(
        prediction_id,
        attempt,
        output_key="k",
        metrics={},
        logs="",
        progress=Progress(1, 1),
        provenance=Provenance("m", "c", audio),
    )
    assert store.run(succeeded)


def test_a_rerun_has_the_same_input_seed_and_version(client: httpx.Client, store: PredictionStore) -> None:
    original = client.post(
        "/predictions", json={"input": {"prompt": "piano", "top_k": 9}, "webhook": "https://example.com/hook"}
    ).json()
    end(store, original["id"])
    answer = rerun(client, original["id"])
    assert answer.status_code == 202
    body = answer.json()
    assert (body["status"], body["rerun_of"], body["provenance"]) == ("starting", original["id"], None)
    assert {name: body[name] for name in ("input", "model", "version")} == {
        name: original[name] for name in ("input", "model", "version")
    }
    assert store.run(commands.get(body["id"])).webhook is None
    told = rerun(client, original["id"], webhook="https://example.com/other", stream=True).json()
    webhook = store.run(commands.get(told["id"])).webhook
    assert webhook is not None
    assert webhook.url == "https://example.com/other"
    assert "stream" in told["urls"]
    assert rerun(client, original["id"], webhook="http://10.0.0.1/").status_code == 422


def test_what_failed_or_was_cancelled_can_be_done_again(client: httpx.Client, store: PredictionStore) -> None:
    failed, cancelled = post(client)["id"], post(client)["id"]
    store.run(commands.fail(failed, claim(store, failed, 60), error="e", logs=""))
    client.post(f"/predictions/{cancelled}/cancel")
    assert [rerun(client, prediction_id).status_code for prediction_id in (failed, cancelled)] == [202, 202]


def test_a_rerun_waits_for_an_end(client: httpx.Client) -> None:
    answer = rerun(client, post(client)["id"])
    assert answer.status_code == 409
    assert "wait for its end, or cancel it" in answer.json()["detail"]


def test_a_version_that_is_served_no_more_is_not_made_by_another(
    client: httpx.Client, store: PredictionStore, announce: Callable[[Announcement], None]
) -> None:
    prediction_id = post(client)["id"]
    end(store, prediction_id)
    announce(CARD.model_copy(update={"version": "w"}))
    wait_until(lambda: client.get("/models").json()["results"][0]["versions"] == ["w"])
    answer = rerun(client, prediction_id)
    assert answer.status_code == 409
    assert "send its input to POST /predictions" in answer.json()["detail"]


def test_audio_that_is_gone_cannot_be_used_again(client: httpx.Client, store: PredictionStore) -> None:
    body = post(client, input_audio="data:audio/wav;base64,UklGRg==")
    end(store, body["id"])
    assert rerun(client, body["id"]).status_code == 202
    client.delete(body["input"]["input_audio"])
    answer = rerun(client, body["id"])
    assert answer.status_code == 409
    assert "has been deleted" in answer.json()["detail"]


def test_a_rerun_is_held_to_the_audio_of_the_first_time(client: httpx.Client, store: PredictionStore) -> None:
    first = post(client, input_audio=AUDIO)["id"]
    end(store, first, audio="a" * 64)
    second = rerun(client, first).json()["id"]
    end(store, second, audio="b" * 64)
    third = rerun(client, second).json()["id"]
    assert [store.run(commands.get(each)).wanted_audio_sha256 for each in (second, third)] == ["a" * 64] * 2


def test_the_files_of_all_reruns_name_the_first_prediction(client: httpx.Client, store: PredictionStore) -> None:
    ids = [post(client)["id"]]
    for _ in range(2):
        end(store, ids[-1])
        ids.append(rerun(client, ids[-1]).json()["id"])
    assert [store.run(commands.get(each)).first_id for each in ids] == ids[:1] * 3


def test_an_idempotency_key_makes_a_rerun_safe(client: httpx.Client, store: PredictionStore) -> None:
    one, other = post(client)["id"], post(client)["id"]
    for prediction_id in (one, other):
        end(store, prediction_id)
    headers = {"Idempotency-Key": "k"}
    answers = [client.post(f"/predictions/{id}/rerun", headers=headers) for id in (one, one, other)]
    assert [answer.status_code for answer in answers] == [202, 202, 422]
    assert answers[0].json()["id"] == answers[1].json()["id"]


def test_only_its_owner_may_do_it_again(settings: Settings, store: PredictionStore) -> None:
    closed = Settings(**{**settings.model_dump(), "api_tokens": "a-token-of-ann,a-token-of-bob"})
    store.run(announcements.announce("worker", CARD, 60.0, queue=Queue.GENERATION))
    ann, bob = ({"Authorization": f"Bearer a-token-of-{name}"} for name in ("ann", "bob"))
    with api_server(closed) as address, httpx.Client(base_url=address, trust_env=False) as client:
        prediction_id = client.post("/predictions", json={"input": {"prompt": "x"}}, headers=ann).json()["id"]
        end(store, prediction_id)
        status = {
            name: client.post(f"/predictions/{prediction_id}/rerun", headers=headers).status_code
            for name, headers in (("ann", ann), ("bob", bob), ("nobody", {}))
        }
    assert status == {"ann": 202, "bob": 404, "nobody": 401}
