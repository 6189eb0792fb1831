"""Objects in a local folder, the default. Clients read them through the API under signed paths that expire."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from musicgen_core.options import OutputFormat
from predictions.errors import ObjectNotFound, StorageError
from predictions.storage.protocol import StoredObject

_KEY = re.compile(r"[A-Za-z0-9_-]+(?:[/.][A-Za-z0-9_-]+)*/?")

# Listed here because the tables of `mimetypes` differ between machines.
CONTENT_TYPES = {f".{each.extension}": each.content_type for each in OutputFormat}


class LocalStorage:
    """Objects as files in one folder."""

    def __init__(self, root: Path, secret: str, expiry_seconds: int) -> None:
        self._root = root
        self._secret = secret.encode()
        self._expiry_seconds = expiry_seconds

    def put(self, key: str, data: bytes | IO[bytes], content_type: str) -> None:  # noqa: ARG002
        """Store bytes, or a file's from its beginning.

        The content type follows from the key's extension when it is served.
        """
        path = self._path(key)
        with _storage_errors(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as unfinished:
                try:
                    if isinstance(data, bytes):
                        unfinished.write(data)
                    else:
                        data.seek(0)
                        shutil.copyfileobj(data, unfinished)
                    unfinished.flush()
                    os.fsync(unfinished.fileno())
                    Path(unfinished.name).rename(path)
                except BaseException:
                    Path(unfinished.name).unlink(missing_ok=True)
                    raise

    def url(self, key: str) -> str:
        """A signed path below the API's address."""
        self._path(key)
        # Rounded up to whole minutes, so that readers within a minute get the same URL, which caches know.
        expires = (int(time.time()) // 60 + 1) * 60 + self._expiry_seconds
        return f"/objects/{quote(key)}?expires={expires}&signature={self._signature(key, str(expires))}"

    def verify(self, key: str, expires: str, signature: str) -> tuple[Path, str]:
        """The file and content type of a signed URL; raises ObjectNotFound where it is forged, expired or gone."""
        genuine = hmac.compare_digest(self._signature(key, expires).encode(), signature.encode())
        if not genuine or not expires.isdigit() or int(expires) < time.time():
            raise ObjectNotFound("the link is not valid, or no longer")
        path = self._path(key)
        if not path.is_file():
            raise ObjectNotFound(key)
        return path, CONTENT_TYPES.get(path.suffix, "application/octet-stream")

    def open(self, key: str) -> bytes:
        """The object's bytes."""
        with _storage_errors(key):
            return self._path(key).read_bytes()

    def save(self, key: str, path: Path) -> None:
        """Write the object's bytes into a file."""
        with _storage_errors(key), self._path(key).open("rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Every file below the prefix, which ends in a slash; those that are being written count too."""
        with suppress(ObjectNotFound), _storage_errors(prefix):
            for path in self._path(prefix).rglob("*"):
                with suppress(FileNotFoundError):
                    if path.is_file():
                        yield StoredObject(path.relative_to(self._root).as_posix(), path.stat().st_mtime)

    def delete_prefix(self, prefix: str) -> None:
        """Delete the objects below the prefix, which ends in a slash, or the one object it names."""
        path = self._path(prefix)
        # Another process may be deleting the same files: what is gone already is no error.
        with suppress(ObjectNotFound), _storage_errors(prefix):
            while path.is_dir():
                with suppress(FileNotFoundError):
                    shutil.rmtree(path)
            if not prefix.endswith("/"):
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ObjectNotFound(key)
        return self._root / key

    def _signature(self, key: str, expires: str) -> str:
        return hmac.new(self._secret, f"object\n{key}\n{expires}".encode(), hashlib.sha256).hexdigest()


@contextmanager
def _storage_errors(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ObjectNotFound(key) from error
    except OSError as error:
        raise StorageError(f"The storage folder failed: {error.strerror or error}") from error
