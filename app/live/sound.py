"""Listen to a prediction while it is made: one WAV file that grows."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import lru_cache

from anyio import to_thread

from app.live.followers import Followers
from predictions.errors import ObjectNotFound, PredictionNotFound, StorageError, StoreUnavailable
from predictions.live_wav import pcm16, streaming_header
from predictions.record import commands
from predictions.record.events import Chunk
from predictions.record.prediction import Prediction
from predictions.record.schema import EventName, Status
from predictions.record.store import AsyncPredictionStore
from predictions.storage.protocol import AudioStorage

logger = logging.getLogger(__name__)


async def growing_wav(
    store: AsyncPredictionStore, followers: Followers, storage: AudioStorage, prediction: Prediction
) -> AsyncIterator[bytes]:
    """Yield a 16-bit WAV file of unknown length, chunk by chunk, from one attempt.

    It ends early if the attempt is given up: the next attempt makes other sound, which is another file.
    """
    chunks: list[Chunk] = []
    token, sent = _token(prediction), 0
    async for event in followers.follow(prediction.id):
        if event.name is EventName.AUDIO:
            chunks.append(Chunk.from_json(event.data))
        elif event.name is EventName.STATUS:
            current = await _current_token(store, prediction.id)
            if sent and current not in (token, None):
                return
            token = token if sent else current
        for chunk in [chunk for chunk in chunks if chunk.token == token][sent:]:
            try:
                # Storages are hashed by identity, which their interface does not say.
                header, samples = await to_thread.run_sync(_read, storage, chunk.key(prediction.id))  # type: ignore[arg-type]
            except (ObjectNotFound, StorageError) as error:
                # What has been sent cannot be taken back: all that is left is to end the file early.
                logger.warning("The sound of %s ends early: %s", prediction.id, error)
                return
            yield samples if sent else header + samples
            sent += 1


async def _current_token(store: AsyncPredictionStore, prediction_id: str) -> str | None:
    with suppress(PredictionNotFound, StoreUnavailable):
        return _token(await store.run(commands.get(prediction_id)))
    return None


def _token(prediction: Prediction) -> str | None:
    """The lease whose sound is to be heard; None while it is not known whether its worker is dead."""
    if prediction.status is Status.STARTING:
        return None
    # A version before 0.3 had the attempt's number in this place.
    return prediction.lease_token or str(prediction.attempt)


@lru_cache(maxsize=64)
def _read(storage: AudioStorage, key: str) -> tuple[bytes, bytes]:
    """Return the header of a file that begins with a chunk, and its 16-bit samples; kept for other listeners."""
    content = storage.open(key)
    return streaming_header(content), pcm16(content)
