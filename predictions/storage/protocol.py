"""Where audio lies: an interface, and the choice between its two implementations."""

from __future__ import annotations

from typing import Protocol

from predictions.settings import Settings


class AudioStorage(Protocol):
    """Objects under keys such as `predictions/{id}/1/output.wav`.

    Every method raises StorageError where the storage fails in a way that is worth another try.
    """

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object, whole or not at all; one that exists is replaced."""
        ...

    def url(self, key: str) -> str:
        """A URL that reads the object and expires; a path where the API itself serves it. Asks nobody."""
        ...

    def open(self, key: str) -> bytes:
        """The object's bytes; raises ObjectNotFound."""
        ...

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object whose key begins with the prefix; none is no error."""
        ...


def open_storage(settings: Settings) -> AudioStorage:
    """The storage that the settings name. Raises SystemExit where something is missing."""
    if settings.storage == "s3":
        from predictions.storage.s3 import S3Storage

        return S3Storage(settings)
    from predictions.storage.local import LocalStorage

    return LocalStorage(settings.data_dir / "objects", settings.require_secret(), settings.url_expiry_seconds)
