"""Trainings carried out by a real trainer, on a model of random weights: what they leave, and how they end."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from finetuning.lora import LoraSettings
from musicgen_core.checkpoints import hub
from musicgen_core.checkpoints.noise_model import write_noise_model
from predictions.files.record import file_key
from predictions.fine_tunes import commands as fine_tunes
from predictions.fine_tunes.record import Visibility
from predictions.models.card import ModelCard
from predictions.record import commands
from predictions.record.prediction import NewPrediction, Prediction, output_prefix
from predictions.record.schema import Cause, Field, Kind, Queue, Status
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from predictions.trainings.inputs import TrainingInput
from predictions.trainings.representation import Inspected, Trained, represent
from tests.finetuning.conftest import tune, write_clip
from tests.predictions.record.test_store import expire_leases
from tests.servers import wait_until
from worker.generation.leases import LeaseKeeper
from worker.trainings.attempt import Trainer, lora_settings
from worker.trainings.log import MOST_PIECES, SOURCE, TABLE, TrainingLog

QUICK = {"steps": 4, "evaluate_every": 2, "batch_size": 1, "rank": 2, "warm_up": 1, "sample_seconds": 0.2}
DESTINATION = "ann/songs"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_noise_model(tmp_path_factory.mktemp("models") / "base", kind="text")


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three clips, of which one has a caption of its own, and a picture."""
    folder, packed = tmp_path_factory.mktemp("songs"), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(3):
            archive.write(write_clip(folder / f"{number}.wav", tune(number, 6.0)), f"{number}.wav")
        archive.writestr("0.txt", "the first tune")
        archive.writestr("cover.jpg", "no sound")
    return packed.getvalue()


class Deployment:
    """A store, a storage and one worker's trainer, without the worker's other parts."""

    def __init__(self, store: PredictionStore, settings: Settings, base: Path) -> None:
        self.store, self.settings, self.base = store, settings, base
        self.storage = open_storage(settings)
        self.checksum = hub.checksum(base)
        self.leases = LeaseKeeper(store, Queue.TRAININGS, settings.lease_seconds)
        self.leases.start()
        store.run(fine_tunes.create(DESTINATION, "ann", Visibility.PRIVATE, None))

    def trainer(self) -> Trainer:
        card = ModelCard(
            name="tests/base",
            version=self.checksum,
            checksum=self.checksum,
            melody=False,
            channels=1,
            sample_rate=32_000,
            max_duration=30,
            concurrency=1,
        )
        return Trainer(self.base, self.store, self.storage, self.leases, self.settings, card)

    def ask(self, dataset: bytes, **given: Any) -> None:
        """Create the training `one` of an uploaded file."""
        self.storage.put(file_key("songs"), dataset, "application/zip")
        value = TrainingInput.model_validate({"dataset": "http://host/files/songs", "description": "a tune", **given})
        new = NewPrediction(
            id="one",
            kind=Kind.TRAINING,
            owner="ann",
            digest="d",
            input=value.settled().model_dump(mode="json", exclude_none=True),
            input_file="songs",
            model="tests/base",
            version=self.checksum,
            destination=DESTINATION,
            queue=Queue.TRAININGS,
            base_url="http://host",
        )
        self.store.run(commands.create(new, remember_seconds=60, max_queued=10))

    def work(self, trainer: Trainer | None = None) -> Prediction:
        """Carry out what waits; returns the training as it then stands."""
        work = (trainer or self.trainer()).take()
        assert work is not None
        work()
        return self.get()

    def get(self) -> Prediction:
        return self.store.run(commands.get("one"))

    def objects(self) -> set[str]:
        return {item.key for item in self.storage.objects(output_prefix("one"))}

    def versions(self) -> list[str]:
        return [version.id for version in self.store.run(fine_tunes.get(DESTINATION)).versions]


@pytest.fixture
def deployment(store: PredictionStore, settings: Settings, base: Path) -> Iterator[Deployment]:
    deployment = Deployment(store, settings, base)
    yield deployment
    deployment.leases.close()


def test_a_training_becomes_a_version(deployment: Deployment, songs: bytes) -> None:
    deployment.ask(songs, optimizer="dadam", **QUICK)
    ended = deployment.work()
    assert (ended.status, ended.error) == (Status.SUCCEEDED, None)
    assert ended.progress is not None
    assert (ended.progress.completed_steps, ended.progress.total_steps) == (4, 4)
    assert ended.metrics["steps"] == 4
    assert ended.metrics["predict_time"] > 0
    for words in ("optimizer dadam is ignored", "Dropped 'cover.jpg'", "the first tune", "4/4", "Held-out loss"):
        assert words in ended.logs
    output = represent(ended, deployment.storage).output
    assert isinstance(output, Trained)
    assert [f"{DESTINATION}:{version}" for version in deployment.versions()] == [output.version]
    assert output.weights.startswith("http://host/objects/predictions/one/")
    assert (output.pieces, output.dropped) == (3, 1)
    assert len(output.samples) == 1
    # What is left is what the record names, and counts for its owner; the checkpoint is gone.
    named = {ended.output["weights"], *(sample[at] for sample in ended.output["samples"] for at in ("before", "after"))}
    assert deployment.objects() == named
    stored = sum(len(deployment.storage.open(key)) for key in named)
    assert deployment.store.redis.hget("musicgen:prediction:one", "stored_bytes") == str(stored)
    with tarfile.open(fileobj=io.BytesIO(deployment.storage.open(ended.output["weights"]))) as tar:
        assert sorted(tar.getnames()) == ["adapter_config.json", "adapter_model.safetensors", "training.json"]
    counts = deployment.store.redis.hgetall(f"musicgen:counts:{Queue.TRAININGS}")
    assert counts[Field.ended(Status.SUCCEEDED, "")] == "1"


def test_an_inspection_shows_the_table_and_trains_nothing(deployment: Deployment, songs: bytes) -> None:
    deployment.ask(songs, inspect=True)
    ended = deployment.work()
    output = represent(ended, deployment.storage).output
    assert isinstance(output, Inspected)
    assert (output.pieces, output.seconds, output.dropped) == (3, 18.0, 1)
    assert [(row.name, row.caption) for row in output.table if row.dropped_reason is None] == [
        ("0.wav", "the first tune"),
        ("1.wav", "a tune"),
        ("2.wav", "a tune"),
    ]
    assert deployment.objects() == set()
    assert deployment.versions() == []


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (b"PK\3\4 this is no zip", "The archive is broken"),
        (b"this is no audio", "There are 0 pieces to train on"),
    ],
)
def test_what_cannot_be_trained_on_is_told(deployment: Deployment, dataset: bytes, message: str) -> None:
    deployment.ask(dataset, **QUICK)
    ended = deployment.work()
    assert ended.status is Status.FAILED
    assert message in (ended.error or "")
    counts = deployment.store.redis.hgetall(f"musicgen:counts:{Queue.TRAININGS}")
    assert counts[Field.ended(Status.FAILED, Cause.INPUT)] == "1"


def test_a_destination_that_is_gone_is_told(deployment: Deployment, songs: bytes) -> None:
    deployment.ask(songs, **QUICK)
    deployment.store.run(fine_tunes.delete(DESTINATION, "ann"))
    assert deployment.work().error == f"The destination {DESTINATION} is no longer there."
    assert deployment.objects() == set()


def begun(deployment: Deployment, trainer: Trainer) -> threading.Thread:
    """A training that runs, and has stored a checkpoint."""
    work = trainer.take()
    assert work is not None
    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: any(key.endswith("checkpoint.pt") for key in deployment.objects()), seconds=300)
    return thread


def test_a_cancelled_training_stops_and_leaves_nothing(deployment: Deployment, songs: bytes) -> None:
    deployment.ask(songs, **QUICK | {"steps": 20_000, "evaluate_every": 1, "patience": 20_000})
    thread = begun(deployment, deployment.trainer())
    wait_until(lambda: deployment.get().progress is not None)
    deployment.store.run(commands.cancel("one"))
    thread.join()
    ended = deployment.get()
    assert ended.status is Status.CANCELED
    assert ended.progress is not None
    assert ended.progress.completed_steps < 20_000
    assert deployment.objects() == set()
    assert deployment.versions() == []


def test_a_worker_that_closes_gives_its_training_back(deployment: Deployment, songs: bytes) -> None:
    """The next one goes on from the checkpoint, to the same weights as without an interruption."""
    long = QUICK | {"steps": 60, "patience": 60}
    deployment.ask(songs, **long)
    first = deployment.trainer()
    thread = begun(deployment, first)
    first.stop_taking()
    thread.join()
    waiting = deployment.get()
    assert (waiting.status, waiting.attempt) == (Status.STARTING, 1)
    assert first.take() is None
    ended = deployment.work()
    assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 2)
    assert "Going on after step" in ended.logs
    resumed = deployment.versions()
    deployment.store.run(commands.delete("one"))
    deployment.ask(songs, **long)
    deployment.work()
    assert deployment.versions() == resumed


def test_a_checkpoint_of_another_dataset_is_not_used(deployment: Deployment, songs: bytes) -> None:
    deployment.ask(songs, **QUICK | {"steps": 60})
    first = deployment.trainer()
    thread = begun(deployment, first)
    first.stop_taking()
    thread.join()
    other = io.BytesIO(songs)
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("1.txt", "the second tune")
    deployment.storage.put(file_key("songs"), other.getvalue(), "application/zip")
    ended = deployment.work()
    assert ended.status is Status.SUCCEEDED
    assert "beginning anew" in ended.logs


def test_whoever_lost_its_lease_to_another_leaves_the_checkpoint(deployment: Deployment, songs: bytes) -> None:
    deployment.ask(songs, **QUICK | {"steps": 20_000, "evaluate_every": 1, "patience": 20_000})
    thread = begun(deployment, deployment.trainer())
    deployment.leases.close()
    expire_leases(deployment.store)
    deployment.store.run(commands.reap(3))
    again = LeaseKeeper(deployment.store, Queue.TRAININGS, 60.0).take()
    assert again is not None
    [old] = deployment.leases._leases()  # noqa: SLF001 - what its thread does with a refused renewal
    old.renew(deployment.store, 60.0, at_once=True)
    thread.join()
    assert any(key.endswith("checkpoint.pt") for key in deployment.objects())
    assert deployment.get().lease_token == again.token


def test_every_setting_of_an_input_is_one_of_the_trainers() -> None:
    """And each of their bounds is one that the trainer takes."""
    for name, field in TrainingInput.model_fields.items():
        if name in LoraSettings.__dataclass_fields__:
            for bound in (
                bound for meta in field.metadata for at in ("ge", "le") if (bound := getattr(meta, at, None))
            ):
                value = TrainingInput.model_validate({"dataset": "https://example.com", name: bound})
                assert getattr(lora_settings(value), name) == bound
    assert lora_settings(TrainingInput(dataset="https://example.com")) == LoraSettings()


def test_a_log_of_many_pieces_is_cut() -> None:
    log = TrainingLog()
    with log.collecting():
        for number in range(MOST_PIECES + 10):
            SOURCE.manager.getLogger(TABLE).info("Taken %d", number)
        SOURCE.info("Step 1: loss 3.2")
    lines = log.read().logs.splitlines()
    assert lines[MOST_PIECES - 1 :] == [f"Taken {MOST_PIECES - 1}", "... and more files and pieces", "Step 1: loss 3.2"]
