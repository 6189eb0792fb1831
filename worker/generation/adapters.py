"""The adapters of fine-tunes: read from storage when a prediction first needs one, and kept for the next ones.

They are kept in memory, and as files in a folder that the workers of a machine share. Both are bounded, and what was
used least lately leaves. Whatever the folder holds, an adapter is used only where its checksum is the version's id.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

from musicgen_core import Adapter, CheckpointError, InvalidRequest, MusicGen
from predictions.errors import ModelNotFound, ObjectNotFound
from predictions.fine_tunes import commands
from predictions.fine_tunes.record import CONFIG, WEIGHTS, Version
from predictions.observability import life
from predictions.record.prediction import Prediction
from predictions.record.store import PredictionStore
from predictions.storage.protocol import AudioStorage
from worker.generation.leases import Lease
from worker.generation.storage_retries import until_storage_answers

NUMBER_BYTES = 4
MAX_LOADED_BYTES = 2 * 2**30
MAX_CACHED_BYTES = 8 * 2**30
"""The newest adapter is kept, however large it is."""


class Adapters:
    """The adapters of one model's fine-tunes; called by many threads at once."""

    def __init__(self, model: MusicGen, store: PredictionStore, storage: AudioStorage, folder: Path) -> None:
        """`folder`: where files are kept; it is made when there is something to keep."""
        self._model = model
        self._store = store
        self._storage = storage
        self._folder = folder
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, Adapter] = OrderedDict()
        """By version; the least lately used first."""
        self._loading: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        """Held by whoever loads a version, so that the others who need it wait instead of loading it too."""

    def of(self, lease: Lease) -> Adapter | None:
        """The adapter that a prediction is made with; None where it is no fine-tune's.

        Raises InvalidRequest where the version has been deleted or its files are not what they were, CheckpointError
        where they are no adapter for this model, StorageError, StoreUnavailable, LeaseLost, OSError.
        """
        if lease.prediction.base is None:
            return None
        version = self._version(lease.prediction)
        with self._lock:
            loading = self._loading.setdefault(version.id, threading.Lock())
        with loading:
            adapter = self._loaded.get(version.id)
            if adapter is None:
                with life.step("load adapter"):
                    adapter = self._load(version, lease)
            self._keep(version.id, adapter)
        return adapter

    def _version(self, prediction: Prediction) -> Version:
        try:
            return self._store.run(commands.get(prediction.model)).version(prediction.version)
        except ModelNotFound as error:
            raise InvalidRequest(
                f"Version {prediction.version} of {prediction.model} has been deleted; send another version."
            ) from error

    def _load(self, version: Version, lease: Lease) -> Adapter:
        folder = self._folder / version.id
        with suppress(CheckpointError, FileNotFoundError):  # such as another worker's making room, or a broken disk
            if folder.is_dir():
                folder.touch()
                return self._checked(folder, version)
        shutil.rmtree(folder, ignore_errors=True)
        contents = {name: self._read(version, name, lease) for name in (CONFIG, WEIGHTS)}
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unfinished-", dir=self._folder) as name:
            unfinished = Path(name) / version.id
            unfinished.mkdir()
            for file, content in contents.items():
                (unfinished / file).write_bytes(content)
            adapter = self._checked(unfinished, version)
            with suppress(OSError):  # another worker was faster
                unfinished.rename(folder)
        self._make_room()
        return adapter

    def _read(self, version: Version, name: str, lease: Lease) -> bytes:
        key = f"{version.prefix}{name}"
        try:
            return until_storage_answers(f"Reading {key}", lambda: self._storage.open(key), lease)
        except ObjectNotFound as error:
            raise InvalidRequest(f"The adapter {version.id} has lost its file {name}; add it again.") from error

    def _checked(self, folder: Path, version: Version) -> Adapter:
        try:
            adapter = self._model.load_adapter(folder)
        except CheckpointError as error:
            # Clients read it, and have no use for the names of folders here.
            raise CheckpointError(str(error).replace(str(folder), version.id)) from error
        if adapter.digest != version.id:
            raise CheckpointError(f"The adapter {version.id} has other files than it had; add it again.")
        return adapter

    def _keep(self, version_id: str, adapter: Adapter) -> None:
        with self._lock:
            self._loaded[version_id] = adapter
            self._loaded.move_to_end(version_id)
            excess = sum(kept.size for kept in self._loaded.values()) * NUMBER_BYTES - MAX_LOADED_BYTES
            while excess > 0 and len(self._loaded) > 1:
                _, dropped = self._loaded.popitem(last=False)
                excess -= dropped.size * NUMBER_BYTES

    def _make_room(self) -> None:
        """Delete the folders that were used least lately; other workers may do the same at once."""
        found = []
        for folder in self._folder.iterdir():
            with suppress(FileNotFoundError):
                size = sum(file.stat().st_size for file in folder.iterdir())
                found.append((folder.stat().st_mtime, size, folder))
        excess = sum(size for _, size, _ in found) - MAX_CACHED_BYTES
        for _, size, folder in sorted(found)[:-1]:
            if excess > 0:
                shutil.rmtree(folder, ignore_errors=True)
                excess -= size
