"""Sound while it is generated: each chunk is stored, then announced to the prediction's followers."""

from __future__ import annotations

import logging

from musicgen_core import Waveform
from predictions.errors import LeaseLost, StorageError, StoreUnavailable
from predictions.live_wav import float_wav
from predictions.record import commands
from predictions.record.events import Chunk
from predictions.record.store import PredictionStore
from predictions.storage.protocol import AudioStorage
from worker.generation.leases import Lease

logger = logging.getLogger(__name__)


class LiveAudio:
    """Stores and announces the chunks of one attempt; called with each in turn."""

    def __init__(self, store: PredictionStore, storage: AudioStorage, lease: Lease) -> None:
        self._store = store
        self._storage = storage
        self._lease = lease
        self.stored_bytes = 0
        """The size of the chunks that are kept."""
        self._index = 0
        self._seconds = 0.0
        self._broken = False

    def __call__(self, sound: Waveform) -> None:
        """Store and announce a chunk. Raises LeaseLost where the prediction was cancelled or taken over.

        After a failure of storage or Redis no more chunks follow: there must be no gap, and the prediction can still
        succeed.
        """
        self._lease.check()
        if self._broken:
            return
        prediction_id = self._lease.prediction_id
        attempt, token = self._lease.prediction.attempt, self._lease.token
        chunk = Chunk(attempt, token, self._index, round(self._seconds, 5), round(sound.duration, 5))
        content = float_wav(
            sound.samples.T.astype("<f4").tobytes(), sample_rate=sound.sample_rate, channels=sound.channels
        )
        try:
            self._storage.put(chunk.key(prediction_id), content, "audio/wav")
            announced = self._store.run(commands.announce_chunk(prediction_id, chunk))
        except (StorageError, StoreUnavailable) as error:
            logger.warning("The live sound of %s ends early: %s", prediction_id, error)
            self._broken = True
            return
        if not announced:
            # Nobody will ever read it.
            self._storage.delete_prefix(chunk.key(prediction_id))
            raise LeaseLost(prediction_id)
        self.stored_bytes += len(content)
        self._index, self._seconds = self._index + 1, self._seconds + sound.duration
