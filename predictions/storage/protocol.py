"""What the service needs of a storage for audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol


@dataclass(frozen=True)
class StoredObject:
    """An object in storage."""

    key: str
    stored_at: float
    """Seconds since 1970, by the storage's clock."""


class AudioStorage(Protocol):
    """Objects under keys such as `predictions/{id}/1/output.wav`.

    Every method raises StorageError where the storage fails in a way that may pass.
    """

    def put(self, key: str, data: bytes | IO[bytes], content_type: str) -> None:
        """Store bytes, or a file's from its beginning, whole or not at all; an object that exists is replaced."""
        ...

    def url(self, key: str) -> str:
        """A URL that reads the object and expires; a path where the API serves it. Sends no request."""
        ...

    def open(self, key: str) -> bytes:
        """The object's bytes; raises ObjectNotFound."""
        ...

    def save(self, key: str, path: Path) -> None:
        """Write the object's bytes into a file, which need not fit into memory; raises ObjectNotFound."""
        ...

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below the prefix, which ends in a slash."""
        ...

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object whose key begins with the prefix; it is no error if there is none."""
        ...
