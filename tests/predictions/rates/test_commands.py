"""The buckets that count a tenant's requests."""

from __future__ import annotations

from itertools import count

import pytest

from predictions.rates.commands import Allowance, Kind, spend
from predictions.record.schema import Keys
from predictions.record.store import PredictionStore

TOKENS = (f"token {number}" for number in count())
SLOW = 0.01
"""Requests a second: none comes back while a test runs."""


def one(
    store: PredictionStore,
    owner: str = "ann",
    kind: Kind = Kind.CHANGES,
    *,
    per_second: float = SLOW,
    patience: float = 0.0,
    token: str | None = None,
) -> Allowance:
    command = spend(owner, kind, token or next(TOKENS), per_second=per_second, patience_seconds=patience)
    return store.run(command)


def let_time_pass(store: PredictionStore, seconds: float, kind: Kind = Kind.CHANGES) -> None:
    key = Keys.rate("ann", kind)
    full = store.redis.get(key)
    assert full is not None
    store.redis.set(key, str(float(full) - seconds))


def test_a_seconds_requests_may_come_at_once_and_no_more(store: PredictionStore) -> None:
    spent = [one(store, per_second=1000.0 / 3, token=f"at once {number}") for number in range(3)]
    assert [item.granted for item in spent] == [True] * 3
    assert spent[0].limit == 334

    first, second = one(store, "bob"), one(store, "bob")
    assert (first.granted, first.limit, first.remaining) == (True, 1, 0)
    assert (second.granted, second.remaining) == (False, 0)
    assert 90 < second.wait_seconds <= 100
    assert second.reset_seconds == second.wait_seconds


def test_room_comes_with_time(store: PredictionStore) -> None:
    one(store)
    assert not one(store).granted
    let_time_pass(store, 60)
    assert 30 < one(store).wait_seconds <= 40
    let_time_pass(store, 50)
    again = one(store)
    assert again.granted
    assert again.wait_seconds == 0


def test_a_request_with_patience_reserves_its_turn(store: PredictionStore) -> None:
    waits = [one(store, patience=250.0) for _ in range(5)]
    assert [item.granted for item in waits] == [True, True, True, False, False]
    assert [round(item.wait_seconds / 100) for item in waits[:4]] == [0, 1, 2, 3]


def test_owners_and_kinds_are_counted_apart(store: PredictionStore) -> None:
    assert one(store).granted
    assert not one(store).granted
    assert one(store, kind=Kind.READS).granted
    assert one(store, "bob").granted


@pytest.mark.parametrize("granted", [True, False])
def test_a_repeated_command_counts_once(store: PredictionStore, granted: bool) -> None:
    if not granted:
        one(store)
    first = one(store, token="lost")
    assert first.granted is granted
    again = one(store, token="lost")
    assert again.granted is granted
    assert again.wait_seconds <= first.wait_seconds
    let_time_pass(store, 100)
    assert one(store).granted


def test_nothing_stays(store: PredictionStore) -> None:
    one(store)
    assert all(store.redis.ttl(key) > 0 for key in store.redis.keys("musicgen:rate*"))
