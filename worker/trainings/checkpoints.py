"""The checkpoint of a training in storage, from which the next attempt goes on after a worker has died."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from finetuning.lora import CHECKPOINT
from predictions.errors import ObjectNotFound, StorageError
from predictions.record.prediction import output_prefix
from predictions.storage.protocol import AudioStorage
from worker.generation.leases import Lease
from worker.generation.storage_retries import until_storage_answers

logger = logging.getLogger(__name__)

SHARE = 20
"""A checkpoint is stored where that took a twentieth of the time since the last one, or less."""
MOST_SECONDS = 180.0
"""However long that takes, no more than this is lost."""


class StoredCheckpoint:
    """One training's checkpoint. Its attempts share it: its key holds no lease's token."""

    def __init__(self, storage: AudioStorage, lease: Lease, folder: Path) -> None:
        """`folder`: where `finetuning` reads and writes it."""
        self._storage = storage
        self._lease = lease
        self._path = folder / CHECKPOINT
        self._key = f"{output_prefix(lease.prediction_id)}{CHECKPOINT}"
        self._stored_at = float("-inf")
        self._took = 0.0

    def fetch(self) -> bool:
        """Fetch it; false where there is none. Raises StorageError, LeaseLost."""
        try:
            content = until_storage_answers(f"Reading {self._key}", lambda: self._storage.open(self._key), self._lease)
        except ObjectNotFound:
            return False
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_bytes(content)
        return True

    def written(self, _: Path) -> None:
        """Store what has been written, if it is time for it. Raises LeaseLost."""
        if time.monotonic() - self._stored_at >= min(SHARE * self._took, MOST_SECONDS):
            self.store()

    def store(self) -> None:
        """Store what has been written. Raises LeaseLost: another attempt may have stored a later one."""
        if not self._path.is_file():
            return
        self._lease.check()
        began = time.monotonic()
        try:
            self._storage.put(self._key, self._path.read_bytes(), "application/octet-stream")
        except StorageError as error:
            # The training goes on: the next one may be stored.
            logger.warning("The checkpoint of %s could not be stored: %s", self._lease.prediction_id, error)
        self._stored_at = time.monotonic()
        self._took = self._stored_at - began

    def forget(self) -> None:
        """Delete it, here and in storage. Raises StorageError."""
        self._path.unlink(missing_ok=True)
        self._storage.delete_prefix(self._key)
