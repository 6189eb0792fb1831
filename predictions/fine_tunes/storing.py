"""Store an adapter's files and add it to a fine-tune as a version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from predictions.errors import InvalidAdapter
from predictions.fine_tunes import commands
from predictions.fine_tunes.record import CONFIG, WEIGHTS, Version
from predictions.record.prediction import now
from predictions.record.store import PredictionStore
from predictions.storage.protocol import AudioStorage

MAX_CONFIG_BYTES, MAX_WEIGHTS_BYTES = 2**18, 2**30
"""More than musicgen-large needs for rank 64 in float32."""
DEFAULT_RANK = 8
"""PEFT's, where a configuration names none."""


def adapter_checksum(folder: Path) -> str:
    """SHA-256 over an adapter's two files, in hex: the id of its version. Raises InvalidAdapter."""
    return _checksum(*_read(folder))


def store_adapter(
    store: PredictionStore,
    storage: AudioStorage,
    name: str,
    tenant: str,
    folder: Path,
    base: str,
    base_version: str,
    training_id: str | None = None,
) -> Version:
    """Store the adapter in a folder of PEFT's form, then make it the newest version of the tenant's fine-tune.

    `base`, `base_version`: the model that it was trained on, by name and version as its card announces them. What the
    tensors hold is for the worker to check that loads them. Raises InvalidAdapter, ModelNotFound where the fine-tune is
    gone or another's, StorageError, StoreUnavailable.
    """
    config, weights = _read(folder)
    version = Version(
        id=_checksum(config, weights),
        base=base,
        base_version=base_version,
        size=len(config) + len(weights),
        rank=_rank(config, folder),
        training_id=training_id,
        created_at=now(),
    )
    # Without a record, objects are left over and will be deleted; a record without objects could not be used.
    storage.put(f"{version.prefix}{WEIGHTS}", weights, "application/octet-stream")
    storage.put(f"{version.prefix}{CONFIG}", config, "application/json")
    store.run(commands.add_version(name, tenant, version))
    return version


def _read(folder: Path) -> tuple[bytes, bytes]:
    files = []
    for name, most in ((CONFIG, MAX_CONFIG_BYTES), (WEIGHTS, MAX_WEIGHTS_BYTES)):
        try:
            size = (folder / name).stat().st_size
            if size > most:
                raise InvalidAdapter(f"{folder / name} has {size} bytes; an adapter's may have {most}.")
            files.append((folder / name).read_bytes())
        except OSError as error:
            raise InvalidAdapter(f"{folder / name} cannot be read: {error.strerror}.") from error
    return files[0], files[1]


def _checksum(config: bytes, weights: bytes) -> str:
    # As the engine computes an adapter's digest, so that a worker need not compute another one.
    return hashlib.sha256(hashlib.sha256(config).digest() + weights).hexdigest()


def _rank(config: bytes, folder: Path) -> int:
    try:
        fields = json.loads(config)
        return max(int(rank) for rank in (fields.get("r", DEFAULT_RANK), *(fields.get("rank_pattern") or {}).values()))
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise InvalidAdapter(f"{folder / CONFIG} is not an adapter's configuration: {error}.") from error
