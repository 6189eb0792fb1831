"""What is kept for an owner, in bytes: counted with each record, and given back with it."""

from __future__ import annotations

import pytest

from predictions.files.commands import delete_file, put_file
from predictions.files.record import File
from predictions.record import commands
from predictions.record.command import UNLIMITED
from predictions.record.prediction import NewPrediction, Progress
from predictions.record.schema import Keys, Outcome
from predictions.record.store import PredictionStore
from tests.records import claim


def put(store: PredictionStore, file_id: str, size: int, most: int = UNLIMITED, owner: str = "ann") -> File | None:
    command = put_file(file_id, owner=owner, name="n", content_type="t", size=size, sha256="0", max_stored_bytes=most)
    return store.run(command)


def create(store: PredictionStore, prediction_id: str, most: int = UNLIMITED, key: str = "") -> Outcome:
    new = NewPrediction(
        id=prediction_id,
        owner="ann",
        digest="d",
        input={},
        model="m",
        version="v",
        queue="generation",
        base_url="http://h",
    )
    command = commands.create(new, idempotency_key=key, remember_seconds=9, max_queued=9, max_stored_bytes=most)
    return store.run(command).outcome


def succeed(store: PredictionStore, prediction_id: str, stored_bytes: int) -> None:
    token = claim(store, prediction_id, 30.0)
    done = commands.succeed(
        prediction_id, token, output_key="k", metrics={}, logs="", progress=Progress(1, 1), stored_bytes=stored_bytes
    )
    for _ in range(2):  # the second is a repetition
        assert store.run(done)


def stored(store: PredictionStore, owner: str = "ann") -> int:
    return int(store.redis.get(Keys.stored(owner)) or 0)


def test_a_file_counts_until_it_is_deleted(store: PredictionStore) -> None:
    for _ in range(2):  # the second is a repetition
        assert put(store, "one", 70) is not None
    assert put(store, "two", 20) is not None
    assert put(store, "other", 5, owner="bob") is not None
    assert (stored(store), stored(store, "bob")) == (90, 5)
    assert [store.run(delete_file("one")), store.run(delete_file("one"))] == [True, False]
    assert stored(store) == 20
    store.run(delete_file("two"))
    assert store.redis.exists(Keys.stored("ann")) == 0


def test_an_output_counts_until_its_prediction_is_deleted(store: PredictionStore) -> None:
    create(store, "one")
    succeed(store, "one", 300)
    put(store, "file", 20)
    assert stored(store) == 320
    for _ in range(2):
        store.run(commands.delete("one"))
    assert stored(store) == 20


def test_what_has_no_output_counts_nothing(store: PredictionStore) -> None:
    create(store, "one")
    store.run(commands.fail("one", claim(store, "one", 30.0), error="e", logs=""))
    create(store, "two")
    store.run(commands.cancel("two"))
    assert stored(store) == 0
    for prediction_id in ("one", "two"):
        assert store.run(commands.delete(prediction_id))
    assert stored(store) == 0


def test_a_file_over_the_limit_is_not_kept(store: PredictionStore) -> None:
    assert put(store, "one", 70, most=100) is not None
    assert put(store, "two", 31, most=100) is None
    assert put(store, "three", 30, most=100) is not None
    # It is there, whatever the limit is by now.
    assert put(store, "one", 70, most=100) is not None
    assert stored(store) == 100
    assert store.redis.exists(Keys.file("two")) == 0


def test_at_the_limit_no_prediction_is_created_and_old_ones_are_found(store: PredictionStore) -> None:
    assert create(store, "one", most=100, key="k") is Outcome.CREATED
    put(store, "file", 100)
    assert create(store, "two", most=100) is Outcome.STORAGE_FULL
    assert create(store, "one", most=100) is Outcome.REPLAYED
    assert create(store, "three", most=100, key="k") is Outcome.REPLAYED
    assert create(store, "two") is Outcome.CREATED
    store.run(delete_file("file"))
    assert create(store, "three", most=100) is Outcome.CREATED


@pytest.mark.parametrize("size", [0, 50])
def test_a_file_that_is_older_than_the_counting_takes_nothing_away(store: PredictionStore, size: int) -> None:
    put(store, "old", 70)
    store.redis.hdel(Keys.file("old"), "stored_bytes")
    store.redis.delete(Keys.stored("ann"))
    put(store, "new", size)
    store.run(delete_file("old"))
    assert stored(store) == size
