"""Files of inputs, downloaded or read from storage; and input audio, which is decoded."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from musicgen_core import InvalidRequest, MusicGen, Waveform
from predictions.errors import ObjectNotFound
from predictions.files.record import file_key
from predictions.record.prediction import Prediction
from predictions.settings import Settings
from predictions.storage.protocol import AudioStorage
from worker.generation.leases import Lease
from worker.generation.storage_retries import until_storage_answers
from worker.network import outbound


def needs_audio(prediction: Prediction) -> bool:
    """Whether the prediction has input audio."""
    return prediction.input.get("input_audio") is not None


class AudioReader:
    """Fetches and decodes input audio for one model. Losing the lease ends what it waits for at once."""

    def __init__(self, model: MusicGen, storage: AudioStorage, settings: Settings) -> None:
        self._model = model
        self._storage = storage
        self._settings = settings

    def read(self, lease: Lease, note_digest: Callable[[str], None]) -> Waveform:
        """The prediction's input audio. `note_digest` gets the file's SHA-256 in hex before it is decoded.

        Raises RequestError, StorageError, MusicGenError, LeaseLost, and what `note_digest` raises.
        """
        with tempfile.TemporaryDirectory(prefix="musicgen-") as folder:
            path = Path(folder) / "input"
            fetch(
                lease,
                lease.prediction.input["input_audio"],
                path,
                self._storage,
                self._settings,
                max_bytes=self._settings.max_input_audio_bytes,
                timeout_seconds=self._settings.download_timeout_seconds,
            )
            with path.open("rb") as file:
                note_digest(hashlib.file_digest(file, "sha256").hexdigest())
            return self._model.read_audio(
                path, max_seconds=self._settings.max_input_audio_seconds, stoppable=lease.stopping
            )


def fetch(
    lease: Lease,
    url: str,
    path: Path,
    storage: AudioStorage,
    settings: Settings,
    *,
    max_bytes: int,
    timeout_seconds: float,
) -> None:
    """Save the file that an input names by this URL, or that was uploaded for it.

    Raises RequestError, StorageError, InvalidRequest, LeaseLost.
    """
    if lease.prediction.input_file is not None:
        _save_file(lease.prediction.input_file, path, storage, lease)
        return
    outbound.download(
        url,
        path,
        max_bytes=max_bytes,
        timeout_seconds=timeout_seconds,
        allowed_networks=settings.outbound_allow,
        stoppable=lease.stopping,
    )


def _save_file(file_id: str, path: Path, storage: AudioStorage, lease: Lease) -> None:
    key = file_key(file_id)
    try:
        until_storage_answers(f"Reading {key}", lambda: storage.save(key, path), lease)
    except ObjectNotFound as error:
        raise InvalidRequest(f"The uploaded file {file_id} has been deleted; send it again.") from error
