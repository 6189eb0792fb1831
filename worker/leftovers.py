"""Delete objects that nobody will ask for: those of predictions, files and adapters without a record, and of lost
attempts.

They stay behind when a process dies between storing an object and writing it down, or when storage takes an object and
the connection breaks before it says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from predictions.files import commands as file_commands
from predictions.files.record import FILES_PREFIX
from predictions.fine_tunes import commands as fine_tune_commands
from predictions.fine_tunes.record import ADAPTERS_PREFIX
from predictions.record import commands
from predictions.record.command import Command
from predictions.record.prediction import PREDICTIONS_PREFIX
from predictions.record.store import PredictionStore
from predictions.storage.protocol import AudioStorage

BATCH = 500
"""Objects whose records are looked up together."""


def delete_leftovers(store: PredictionStore, storage: AudioStorage, older_than_seconds: float) -> int:
    """Delete what is left over and older than this; returns how many objects. Raises StoreUnavailable, StorageError.

    Younger objects may belong to an attempt that has not written down its end yet.
    """
    before, deleted = time.time() - older_than_seconds, 0
    for prefix, find in (
        (PREDICTIONS_PREFIX, _unwanted_of_predictions),
        (FILES_PREFIX, _unwanted_of_files),
        (ADAPTERS_PREFIX, _unwanted_of_adapters),
    ):
        old = (item.key for item in storage.objects(prefix) if item.stored_at < before)
        while batch := list(islice(old, BATCH)):
            for key in find(store, batch):
                storage.delete_prefix(key)
                deleted += 1
    return deleted


def _unwanted_of_predictions(store: PredictionStore, keys: Iterable[str]) -> Iterator[str]:
    parts = [(key, *key.split("/")[1:3]) for key in keys]
    wanted = store.run(commands.wanted([prediction_id for _, prediction_id, _ in parts]))
    for (key, _, token), wanted_token in zip(parts, wanted, strict=True):
        if wanted_token not in (commands.ALL_OBJECTS, token):
            yield key


def _unwanted_of_files(store: PredictionStore, keys: Iterable[str]) -> Iterator[str]:
    return _unknown(store, keys, file_commands.known)


def _unwanted_of_adapters(store: PredictionStore, keys: Iterable[str]) -> Iterator[str]:
    return _unknown(store, keys, fine_tune_commands.known)


def _unknown(
    store: PredictionStore, keys: Iterable[str], known: Callable[[Sequence[str]], Command[list[bool]]]
) -> Iterator[str]:
    """The keys whose second part, an id, has no record."""
    parts = [(key, key.split("/")[1]) for key in keys]
    found = store.run(known([record_id for _, record_id in parts]))
    return (key for (key, _), is_known in zip(parts, found, strict=True) if not is_known)
