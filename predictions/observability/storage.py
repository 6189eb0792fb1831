"""A storage whose operations are counted, and are steps in traces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from predictions.errors import ObjectNotFound, StorageError
from predictions.observability import life, metrics
from predictions.storage.protocol import AudioStorage, StoredObject


class ObservedStorage:
    """Passes everything on to another storage, and counts it."""

    def __init__(self, storage: AudioStorage) -> None:
        self._storage = storage

    def put(self, key: str, data: bytes | IO[bytes], content_type: str) -> None:
        """Store bytes, or a file's from its beginning, whole or not at all; an object that exists is replaced."""
        with _counted("put"):
            self._storage.put(key, data, content_type)

    def url(self, key: str) -> str:
        """Return a URL that reads the object and expires; a path where the API serves it. Sends no request."""
        return self._storage.url(key)

    def open(self, key: str) -> bytes:
        """Return the object's bytes; raises ObjectNotFound."""
        with _counted("open"):
            return self._storage.open(key)

    def save(self, key: str, path: Path) -> None:
        """Write the object's bytes into a file, which need not fit into memory; raises ObjectNotFound."""
        with _counted("open"):
            self._storage.save(key, path)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object below the prefix, which ends in a slash."""
        return self._storage.objects(prefix)

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object whose key begins with the prefix; it is no error if there is none."""
        with _counted("delete"):
            self._storage.delete_prefix(prefix)


@contextmanager
def _counted(operation: str) -> Iterator[None]:
    began, failed = time.perf_counter(), False
    try:
        with life.step(f"storage {operation}"):
            yield
    except StorageError as error:
        failed = not isinstance(error, ObjectNotFound)
        raise
    finally:
        metrics.observe_storage(operation, time.perf_counter() - began, failed=failed)
