"""Predictions that fail in the worker: what their record says."""

from __future__ import annotations

import errno
import math
from typing import NoReturn, cast

import pytest

from musicgen_core import GenerationInput, InvalidRequest, MusicGen, StepFailed
from predictions.errors import StoreUnavailable
from predictions.record import commands
from predictions.record.prediction import NewPrediction, Prediction
from predictions.record.schema import Status
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from tests.app.conftest import CARD
from worker.generation.attempt import Generator
from worker.generation.leases import LeaseKeeper


class BrokenModel:
    """A model whose every request ends in one error."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.busy_seconds = 0.0

    def submit(self, _: GenerationInput) -> NoReturn:
        raise self.error


def generate(store: PredictionStore, settings: Settings, model: BrokenModel | None, version: str) -> Prediction:
    """Create a prediction and have a worker with this model carry it out, if there is anything to do."""
    store.run(
        commands.create(
            NewPrediction(
                id="one",
                owner="ann",
                digest="d",
                input={"prompt": "piano", "seed": 1},
                model="ann/one",
                version=version,
                queue="generation:ann/one",
                base_url="http://host",
            ),
            remember_seconds=60,
            max_queued=100,
        )
    )
    leases = LeaseKeeper(store, "generation:ann/one", settings.lease_seconds)
    work = Generator(cast(MusicGen, model), store, open_storage(settings), leases, settings, CARD).take()
    if work is not None:
        work()
    return store.run(commands.get("one"))


def test_a_version_that_the_worker_does_not_serve_fails_and_says_so(store: PredictionStore, settings: Settings) -> None:
    # The model is not reached: any use of it would be an internal error.
    ended = generate(store, settings, None, "1.0")
    assert ended.status is Status.FAILED
    assert ended.error == "Version 1.0 of the model, which was asked for, is no longer served; send it again."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "could not read or write a file: No space left on device"),
        (RuntimeError("a secret of the machine"), "Internal error: the worker's log says which."),
    ],
)
def test_what_breaks_a_worker_is_told_without_its_insides(
    store: PredictionStore, settings: Settings, error: Exception, message: str
) -> None:
    ended = generate(store, settings, BrokenModel(error), CARD.version)
    assert ended.status is Status.FAILED
    assert message in (ended.error or "")
    assert ended.logs == "Using seed 1\n"


def test_what_has_ended_is_not_generated(store: PredictionStore, settings: Settings) -> None:
    first = generate(store, settings, None, "1.0")
    assert generate(store, settings, BrokenModel(RuntimeError()), "1.0") == first


def test_a_shared_step_that_failed_is_no_end(store: PredictionStore, settings: Settings) -> None:
    waits = generate(store, settings, BrokenModel(StepFailed("a step of 2 requests failed")), CARD.version)
    assert (waits.status, waits.error) == (Status.STARTING, None)
    assert store.redis.hget("musicgen:prediction:one", "suspicions") == "1"


def test_what_an_ended_engine_was_working_on_is_left_to_another_worker(
    store: PredictionStore, settings: Settings
) -> None:
    model = BrokenModel(RuntimeError("the device is lost"))
    model.busy_seconds = math.inf
    with pytest.raises(RuntimeError, match="the device is lost"):
        generate(store, settings, model, CARD.version)
    left = store.run(commands.get("one"))
    assert (left.status, left.error) == (Status.PROCESSING, None)
    assert left.id in store.redis.zrange("musicgen:leases", 0, -1)


def test_an_end_that_cannot_be_written_is_no_error_of_the_prediction(
    store: PredictionStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object, **__: object) -> NoReturn:
        raise StoreUnavailable("Redis is away")

    def stop_waiting(self: Generator, *_: object) -> None:
        self.stop_waiting()
        monkeypatch.setattr(store, "run", unavailable)
        raise InvalidRequest("the prediction's own error")

    monkeypatch.setattr(Generator, "_carry_out", stop_waiting)
    with monkeypatch.context(), pytest.raises(StoreUnavailable):
        generate(store, settings, None, CARD.version)
    monkeypatch.undo()
    assert store.run(commands.get("one")).status is Status.PROCESSING
