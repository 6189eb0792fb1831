"""Trainings of musicgen-pocket through `musicgen serve`: Replicate's clients, a killed worker, a cancellation."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import replicate

from tests.e2e.conftest import Service, serve
from tests.e2e.test_replicate_python import client_for, seconds
from tests.finetuning.conftest import tune, write_clip
from tests.javascript import node
from tests.servers import wait_until
from tests.webhook_receiver import receiver

MODEL = "local/musicgen-pocket"
QUICK = {"steps": 4, "evaluate_every": 2, "batch_size": 1, "rank": 2, "sample_seconds": 0.2, "description": "a tune"}
ENDLESS = QUICK | {"steps": 20_000, "patience": 20_000, "evaluate_every": 1}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serve(tmp_path_factory.mktemp("trainings"), MUSICGEN_TRAININGS="true") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[replicate.Client]:
    client = client_for(service)
    yield client
    client._client.close()  # noqa: SLF001 - the client has no public way to close its connections


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    with zipfile.ZipFile(folder / "songs.zip", "w") as archive:
        for number in range(3):
            archive.write(write_clip(folder / f"{number}.wav", tune(number, 6.0)), f"{number}.wav")
    return folder / "songs.zip"


@pytest.fixture(scope="module")
def destination(client: replicate.Client) -> str:
    model = client.models.create("me", "songs", visibility="private", hardware="any")
    return f"{model.owner}/{model.name}"


def dataset(service: Service, songs: Path) -> str:
    with songs.open("rb") as file:
        url: str = service.client.post("/files", files={"content": file}).json()["urls"]["get"]
    return url


def start(service: Service, songs: Path, destination: str, **given: Any) -> str:
    order = {"destination": destination, "input": {"dataset": dataset(service, songs), **given}}
    answer = service.client.post("/trainings", json=order)
    assert answer.status_code == 202, answer.text
    training_id: str = answer.json()["id"]
    return training_id


def get(service: Service, training_id: str) -> dict[str, Any]:
    body: dict[str, Any] = service.client.get(f"/trainings/{training_id}").json()
    return body


def wait(service: Service, training_id: str) -> dict[str, Any]:
    """Poll until it has ended."""
    wait_until(
        lambda: get(service, training_id)["completed_at"] is not None, seconds=900, every=0.5, process=service.process
    )
    return get(service, training_id)


def has_checkpoint(service: Service, training_id: str) -> bool:
    return (service.data / "objects" / "predictions" / training_id / "checkpoint.pt").is_file()


def test_replicates_python_client_trains_and_plays(
    service: Service, client: replicate.Client, songs: Path, destination: str
) -> None:
    version = client.models.get(MODEL).latest_version
    assert version is not None
    with receiver() as hook, songs.open("rb") as file:
        training = client.trainings.create(
            model=MODEL,
            version=version,
            input={"dataset_path": file, "lr": 0.001, "drop_vocals": False, **QUICK},
            destination=destination,
            webhook=hook.url,
            webhook_events_filter=["completed"],
        )
        assert (training.status, training.model, training.version) == ("starting", MODEL, version.id)
        wait(service, training.id)
        wait_until(lambda: len(hook.received) == 1)
    training.reload()
    assert (training.status, training.error) == ("succeeded", None)
    assert training.destination == destination
    assert training.output is not None
    assert training.output["held_out_loss"]["before"] > 0
    assert "Held-out loss" in (training.logs or "")
    told = json.loads(hook.received[0][1])
    assert (told["id"], told["output"]["version"]) == (training.id, training.output["version"])
    assert told["urls"]["get"].endswith(f"/v1/trainings/{training.id}")
    assert client.trainings.list().results[0].id == training.id
    assert training.id not in [item.id for item in client.predictions.list().results]
    assert len(service.client.get(training.output["weights"]).content) > 10_000
    for sample in training.output["samples"]:
        assert seconds(service.client.get(sample["after"]).content) == pytest.approx(0.2, abs=0.1)
    url = client.run(training.output["version"], input={"prompt": "a tune", "duration": 1})
    assert seconds(service.client.get(str(url)).content) == 1


def test_replicates_javascript_client_trains(service: Service, songs: Path) -> None:
    said = node(
        "--test",
        "--test-reporter=tap",
        "trainings.test.mjs",
        BASE_URL=str(service.client.base_url).rstrip("/"),
        MODEL=MODEL,
        SONGS=str(songs),
        QUICK=json.dumps(QUICK),
    )
    assert "# fail 0" in said
    assert "# pass 0" not in said


def test_a_killed_workers_training_goes_on(service: Service, songs: Path, destination: str) -> None:
    training_id = start(service, songs, destination, **QUICK | {"steps": 60, "evaluate_every": 1, "patience": 60})
    wait_until(lambda: has_checkpoint(service, training_id), seconds=900, every=0.05, process=service.process)
    os.kill(service.pid("trainings"), signal.SIGKILL)
    body = wait(service, training_id)
    assert (body["status"], body["error"]) == ("succeeded", None)
    assert body["metrics"]["attempt"] == 2
    assert "Going on after step" in body["logs"]
    assert not has_checkpoint(service, training_id)


def test_a_cancelled_training_stops_within_a_step(service: Service, songs: Path, destination: str) -> None:
    running = start(service, songs, destination, **ENDLESS)
    wait_until(lambda: has_checkpoint(service, running), seconds=900, every=0.05, process=service.process)
    assert service.client.post(f"/trainings/{running}/cancel").json()["status"] == "canceled"
    # The worker is free for the next one, and nothing is left.
    looked_at = wait(service, start(service, songs, destination, inspect=True))
    assert looked_at["output"]["pieces"] == 0
    assert {row["dropped_reason"] for row in looked_at["output"]["table"]} == {
        "no caption: put a .txt beside the file, or give a description for all files"
    }
    wait_until(lambda: not (service.data / "objects" / "predictions" / running / "checkpoint.pt").exists())
    assert service.client.delete(f"/trainings/{running}").status_code == 204
    assert service.client.get(f"/trainings/{running}").status_code == 404
