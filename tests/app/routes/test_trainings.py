"""Trainings as a client of the API sees them; no worker runs, so everything waits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from predictions.fine_tunes import commands as fine_tunes
from predictions.fine_tunes.record import Visibility
from predictions.models import announcements
from predictions.models.card import Announcement
from predictions.record import commands
from predictions.record.prediction import Progress
from predictions.record.schema import Kind, Queue
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.token_file import ANYONE
from tests.app.conftest import CARD, api_server
from tests.records import take
from tests.server_sent_events import listen
from tests.servers import wait_until

URL = "https://example.com/songs.zip"
ORDER = {"destination": "me/songs", "input": {"dataset": URL}}
OLD_PATH = f"/v1/models/{CARD.name}/versions/{CARD.version}/trainings"


@pytest.fixture
def trainer(store: PredictionStore, client: httpx.Client) -> httpx.Client:
    """The API, once a worker that trains has announced itself, and somebody has a model to train into."""
    store.run(announcements.announce("trainer", CARD, 60.0, queue=Queue.TRAININGS))
    store.run(fine_tunes.create("me/songs", ANYONE, Visibility.PRIVATE, None))
    return client


def test_a_training_is_accepted_and_waits(trainer: httpx.Client) -> None:
    answer = trainer.post("/trainings", json=ORDER)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["status"], body["queue_position"], body["source"]) == ("starting", 0, "api")
    assert (body["model"], body["version"], body["destination"]) == (CARD.name, CARD.version, "me/songs")
    assert body["input"]["steps"] == 500
    assert body["output"] is None
    assert trainer.get(body["urls"]["get"]).json() == body
    canceled = trainer.post(body["urls"]["cancel"]).json()
    assert canceled["status"] == "canceled"
    assert trainer.delete(f"/trainings/{body['id']}").status_code == 204
    assert trainer.get(body["urls"]["get"]).status_code == 404


def test_a_model_says_how_many_workers_train_it(store: PredictionStore, client: httpx.Client) -> None:
    assert client.get(f"/models/{CARD.name}").json()["trainers"] is None
    store.run(announcements.announce("trainer", CARD, 60.0, queue=Queue.TRAININGS))
    wait_until(lambda: client.get(f"/models/{CARD.name}").json()["trainers"] == 1)


def test_trainings_and_predictions_do_not_see_each_other(trainer: httpx.Client) -> None:
    training = trainer.post("/trainings", json=ORDER).json()["id"]
    prediction = trainer.post("/predictions", json={"input": {"prompt": "piano"}}).json()["id"]
    for mine, other, listed in (("trainings", "predictions", training), ("predictions", "trainings", prediction)):
        for root in ("", "/v1"):
            assert [item["id"] for item in trainer.get(f"{root}/{mine}").json()["results"]] == [listed]
            assert trainer.get(f"{root}/{other}/{listed}").status_code == 404
            assert trainer.post(f"{root}/{other}/{listed}/cancel").status_code == 404
        assert trainer.delete(f"/{other}/{listed}").status_code == 404
    assert trainer.get(f"/trainings/{prediction}").json()["title"] == "No such training"
    assert trainer.post(f"/predictions/{training}/rerun").status_code == 404
    assert trainer.get(f"/predictions/{training}/stream").status_code == 404


def test_replicates_form_of_a_training(trainer: httpx.Client) -> None:
    hook = "https://example.com/hook"
    answer = trainer.post(OLD_PATH, json={**ORDER, "webhook_completed": hook, "hardware": "gpu"})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["urls"]["get"].endswith(f"/v1/trainings/{body['id']}")
    assert trainer.get(f"/v1/trainings/{body['id']}").json() == body
    forbidden = trainer.post(OLD_PATH, json={**ORDER, "webhook_completed": "http://10.0.0.1/"})
    assert forbidden.status_code == 422


def test_lists_have_pages(trainer: httpx.Client) -> None:
    made = [trainer.post("/trainings", json=ORDER).json()["id"] for _ in range(3)]
    first = trainer.get("/trainings", params={"limit": 2}).json()
    second = trainer.get(first["next"]).json()
    assert [item["id"] for item in (*first["results"], *second["results"])] == made[::-1]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"destination": "me/nothing"}, "destination"),
        ({"destination": "others/songs"}, "destination"),
        ({"destination": None}, "destination"),
        ({"destination": "songs"}, "destination"),
        ({"input": {}}, "dataset"),
        ({"input": {"dataset": URL, "rank": 100}}, "rank"),
        ({"input": {"dataset": URL, "ranks": 8}}, "ranks"),
        ({"input": {"dataset": URL, "steps": 1, "epochs": 1}}, "epochs"),
        ({"input": {"dataset": "http://10.0.0.1/songs.zip"}}, "dataset"),
        ({"input": {"dataset": "data:application/zip;base64,????"}}, "dataset"),
        ({"stream": True}, "stream"),
    ],
)
def test_what_is_wrong_is_named(
    trainer: httpx.Client, store: PredictionStore, change: dict[str, Any], field: str
) -> None:
    store.run(fine_tunes.create("others/songs", "somebody else", Visibility.PUBLIC, None))
    answer = trainer.post("/trainings", json=ORDER | change)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_a_broken_data_uri_is_the_datasets_however_long_it_is(trainer: httpx.Client) -> None:
    body = ORDER | {"input": {"dataset": "data:application/zip;base64," + "A" * 100_000 + "?"}}
    for path in ("/trainings", OLD_PATH):
        answer = trainer.post(path, json=body)
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == ["dataset"]


def test_an_inspection_needs_no_destination(trainer: httpx.Client) -> None:
    body = trainer.post("/trainings", json={"input": {"dataset": URL, "inspect": True}}).json()
    assert (body["status"], body["destination"]) == ("starting", None)


def test_a_dataset_comes_as_an_upload_or_as_a_data_uri(trainer: httpx.Client, store: PredictionStore) -> None:
    upload = trainer.post("/files", files={"content": ("songs.zip", b"PK", "application/zip")}).json()
    for dataset in (upload["urls"]["get"], "data:application/zip;base64,UEs="):
        body = trainer.post("/trainings", json=ORDER | {"input": {"dataset": dataset}}).json()
        record = store.run(commands.get(body["id"]))
        assert record.kind is Kind.TRAINING
        assert record.input_file is not None
        assert record.input["dataset"].endswith(f"/files/{record.input_file}")


@pytest.fixture
def taken(trainer: httpx.Client, store: PredictionStore) -> tuple[str, str]:
    """A training that a worker has taken, and the worker's token."""
    order = ORDER | {"webhook": "https://example.com/hook"}
    training = trainer.post("/trainings", json=order).json()["id"]
    lease = take(store, training, 30.0)
    assert lease is not None
    return training, lease.lease_token


def test_a_training_is_followed_to_its_end(
    trainer: httpx.Client, store: PredictionStore, taken: tuple[str, str]
) -> None:
    training, token = taken
    assert trainer.get(f"/trainings/{training}").json()["estimate"] is None
    store.run(commands.renew(training, token, 30.0, progress=Progress(25, 100), logs="a line\n"))
    estimate = trainer.get(f"/trainings/{training}").json()["estimate"]
    assert estimate["start_seconds"] == 0
    assert estimate["finish_seconds"] > 0
    output = {
        "version": "me/songs:one", "weights": f"predictions/{training}/t/adapter.tar", "pieces": 2, "dropped": 0,
        "held_out_loss": {"before": 2.0, "after": 1.0}, "samples": [],
    }  # fmt: skip
    succeeded = commands.succeed(
        training, token, output=output, metrics={}, logs="a line\n", progress=Progress(100, 100)
    )
    assert store.run(succeeded)
    events = [(message.event, message.data) for message in listen(trainer, f"/trainings/{training}/stream")]
    names = [name for name, _ in events]
    assert names == ["status", "status", "progress", "logs", "progress", "status", "output", "done"]
    told = json.loads(dict(events)["output"])
    assert (told["version"], told["held_out_loss"]) == ("me/songs:one", {"before": 2.0, "after": 1.0})
    assert told["weights"].startswith("http")
    ended = trainer.get(f"/trainings/{training}").json()
    assert ended["estimate"] is None
    assert ended["output"].keys() == told.keys()


def test_webhooks_of_a_training_are_listed_and_sent_again(trainer: httpx.Client, taken: tuple[str, str]) -> None:
    path = f"/trainings/{taken[0]}/webhook-deliveries"
    [delivery] = trainer.get(path).json()["results"]
    assert delivery["event"] == "start"
    sent = trainer.post(f"{path}/{delivery['id']}/redeliver")
    assert (sent.status_code, sent.json()["state"]) == (202, "pending")
    assert trainer.get(path.replace("trainings", "predictions")).status_code == 404


def test_without_a_worker_that_trains_it_is_said(client: httpx.Client, store: PredictionStore) -> None:
    store.run(fine_tunes.create("me/songs", ANYONE, Visibility.PRIVATE, None))
    for path in ("/trainings", OLD_PATH):
        answer = client.post(path, json=ORDER)
        assert answer.status_code == 503
        assert "musicgen worker --trainings" in answer.json()["detail"]


def test_another_version_than_the_one_that_is_trained(trainer: httpx.Client) -> None:
    answer = trainer.post(f"/v1/models/{CARD.name}/versions/other/trainings", json=ORDER)
    assert answer.status_code == 422
    assert f"{CARD.name}:{CARD.version}" in answer.json()["detail"]
    assert trainer.post("/v1/models/no/body/versions/other/trainings", json=ORDER).status_code == 404


def test_the_same_key_makes_one_training(trainer: httpx.Client) -> None:
    headers = {"Idempotency-Key": "one"}
    ids = {trainer.post("/trainings", json=ORDER, headers=headers).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    other = trainer.post("/trainings", json=ORDER | {"priority": 1}, headers=headers)
    assert other.status_code == 422


@pytest.fixture
def tokens(settings: Settings, announce: Callable[[Announcement], None]) -> Iterator[httpx.Client]:
    announce(CARD)
    closed = settings.model_copy(
        update={"api_tokens": Settings(api_tokens="ann-has-a-token,bob-has-a-token").api_tokens}
    )
    with api_server(closed) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client


def test_trainings_belong_to_their_token(tokens: httpx.Client, store: PredictionStore) -> None:
    store.run(announcements.announce("trainer", CARD, 60.0, queue=Queue.TRAININGS))
    ann, bob = ({"Authorization": f"Bearer {name}-has-a-token"} for name in ("ann", "bob"))
    model = {"owner": "ann", "name": "songs", "visibility": "public", "hardware": "any"}
    assert tokens.post("/v1/models", json=model, headers=ann).status_code == 201
    order = ORDER | {"destination": "ann/songs"}
    made = tokens.post("/trainings", json=order, headers=ann).json()
    assert tokens.get(f"/trainings/{made['id']}", headers=ann).status_code == 200
    assert tokens.get(f"/trainings/{made['id']}", headers=bob).status_code == 404
    assert tokens.get("/trainings", headers=bob).json()["results"] == []
    # Bob may see the model, and not train into it.
    assert tokens.post("/trainings", json=order, headers=bob).status_code == 422
