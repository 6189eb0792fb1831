"""Listen to a prediction while it is made: one WAV file that grows."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from functools import lru_cache

from anyio import to_thread

from app.live.followers import Followers
from predictions.errors import ObjectNotFound, StorageError
from predictions.live_wav import pcm16, streaming_header
from predictions.record.events import Chunk
from predictions.record.prediction import Prediction
from predictions.record.schema import EventName, Status
from predictions.storage.protocol import AudioStorage

logger = logging.getLogger(__name__)


async def growing_wav(followers: Followers, storage: AudioStorage, prediction: Prediction) -> AsyncIterator[bytes]:
    """Yield a 16-bit WAV file of unknown length, chunk by chunk, from one attempt.

    It ends early if the attempt does: the next attempt makes other sound, which is another file.
    """
    begun = False
    wanted = prediction.attempt + (prediction.status is Status.STARTING)
    async for event in followers.follow(prediction.id):
        if begun and event.name is EventName.STATUS:
            return
        if event.name is not EventName.AUDIO or (chunk := Chunk.from_json(event.data)).attempt < wanted:
            continue
        try:
            # Storages are hashed by identity, which their interface does not say.
            header, samples = await to_thread.run_sync(_read, storage, chunk.key(prediction.id))  # type: ignore[arg-type]
        except (ObjectNotFound, StorageError) as error:
            # What has been sent cannot be taken back: all that is left is to end the file early.
            logger.warning("The sound of %s ends early: %s", prediction.id, error)
            return
        yield samples if begun else header + samples
        begun = True


@lru_cache(maxsize=64)
def _read(storage: AudioStorage, key: str) -> tuple[bytes, bytes]:
    """Return the header of a file that begins with a chunk, and its 16-bit samples; kept for other listeners."""
    content = storage.open(key)
    return streaming_header(content), pcm16(content)
