"""Chunks of a prediction while it is generated: stored and announced, until something fails or the lease is lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from musicgen_core import Waveform
from predictions.errors import LeaseLost, ObjectNotFound, StorageError
from predictions.record import commands
from predictions.record.events import Chunk
from predictions.record.prediction import NewPrediction
from predictions.record.schema import EventName
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from worker.generation.leases import Lease
from worker.generation.live_audio import LiveAudio

SOUND = Waveform(np.full((1, 16_000), 0.5, np.float32), 32_000)


@pytest.fixture
def lease(store: PredictionStore) -> Lease:
    new = NewPrediction(
        id="one", owner="ann", digest="d", input={}, model="a/b", version="v", queue="q", base_url="http://host"
    )
    store.run(commands.create(new, remember_seconds=60, max_queued=100))
    claimed = store.run(commands.take("q", "token", 60.0))
    assert claimed is not None
    return Lease(claimed)


def chunks(store: PredictionStore) -> list[Chunk]:
    events = store.run(commands.events("one")) or []
    return [Chunk.from_json(event.data) for event in events if event.name is EventName.AUDIO]


def test_each_chunk_is_stored_and_then_announced(store: PredictionStore, settings: Settings, lease: Lease) -> None:
    storage = open_storage(settings)
    live = LiveAudio(store, storage, lease)
    live(SOUND)
    live(SOUND)
    assert [(chunk.index, chunk.start, chunk.duration) for chunk in chunks(store)] == [(0, 0.0, 0.5), (1, 0.5, 0.5)]
    assert all(len(storage.open(chunk.key("one"))) > 4 * 16_000 for chunk in chunks(store))


def test_after_a_failure_of_storage_there_is_no_gap_and_no_end(
    store: PredictionStore, settings: Settings, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(settings)
    live = LiveAudio(store, storage, lease)
    live(SOUND)

    def fail(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "put", fail)
        live(SOUND)
    live(SOUND)
    assert [chunk.index for chunk in chunks(store)] == [0]


@pytest.mark.parametrize("told", [False, True])
def test_a_cancelled_prediction_gets_no_more_chunks(
    store: PredictionStore, settings: Settings, lease: Lease, told: bool
) -> None:
    storage = open_storage(settings)
    live = LiveAudio(store, storage, lease)
    store.run(commands.cancel("one"))
    stop: Callable[[], None] = lease.lose if told else lambda: None
    stop()
    with pytest.raises(LeaseLost):
        live(SOUND)
    assert chunks(store) == []
    with pytest.raises(ObjectNotFound):
        storage.open(Chunk(1, "token", 0, 0.0, 0.5).key("one"))
