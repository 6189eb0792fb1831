"""Follow a prediction while it is made: its events, and its sound."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncIterable, AsyncIterator
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from fastapi.security import HTTPAuthorizationCredentials
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app.auth import authenticate, bearer
from app.problems import Problem
from app.routes.predictions import MISSING, REFUSALS, PredictionId, owned
from app.services import InjectedServices, Services
from predictions.errors import ObjectNotFound, PredictionNotFound, StorageError
from predictions.live_wav import pcm16, streaming_header
from predictions.record import commands
from predictions.record.events import Chunk, Event
from predictions.record.prediction import Prediction
from predictions.record.schema import EventName, Status
from predictions.representation import object_url
from predictions.storage.protocol import AudioStorage

logger = logging.getLogger(__name__)

router = APIRouter(tags=["streams"], responses=REFUSALS | MISSING)

NARROW = frozenset({"output", "logs", "error", "done"})
"""The events that Replicate's clients know; another name makes the Python one fail."""
SOUND: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}},
        "description": "16-bit WAV of unknown length, sent as it is made.",
    },
    409: {"model": Problem, "description": "The prediction was created without `stream`."},
}

LastEventId = Annotated[
    str,
    Header(
        pattern=r"^[0-9]{1,15}-[0-9]{1,15}$", description="The id of the last event that came; those after it follow."
    ),
]
StreamToken = Annotated[str | None, Query(max_length=100, description="From `urls.stream` or `urls.audio`.")]


async def followed(
    request: Request,
    prediction_id: PredictionId,
    services: InjectedServices,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    token: StreamToken = None,
) -> Prediction:
    """The prediction, for its owner or whoever has the token of its URLs; raises PredictionNotFound, 401."""
    if token is None:
        return await owned(services, await authenticate(request, credentials), prediction_id)
    prediction = await services.store.run(commands.get(prediction_id))
    if not secrets.compare_digest((prediction.stream_token or "").encode(), token.encode()) or not token:
        raise PredictionNotFound(prediction_id)
    return prediction


Followed = Annotated[Prediction, Depends(followed)]


@router.get("/predictions/{prediction_id}/stream", response_class=EventSourceResponse)
async def stream_prediction(
    prediction: Followed, services: InjectedServices, last_event_id: LastEventId = commands.FIRST_EVENT
) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events to its end: `status`, `progress`, `logs`, `audio`, at last `output` or `error`, and `done`."""
    async for event in _stream(prediction, services, last_event_id):
        yield event


@router.get("/streams/{prediction_id}", response_class=EventSourceResponse, include_in_schema=False)
async def stream_for_replicate(
    prediction: Followed, services: InjectedServices, last_event_id: LastEventId = commands.FIRST_EVENT
) -> AsyncIterable[ServerSentEvent]:
    """The same in the narrower form that Replicate's clients expect at `urls.stream`."""
    async for event in _stream(prediction, services, last_event_id):
        if event.event in NARROW:
            yield event


@router.get("/predictions/{prediction_id}/audio", response_class=StreamingResponse, responses=SOUND)
async def get_audio(prediction: Followed, services: InjectedServices) -> StreamingResponse:
    """The music while it is made, before normalization, as a WAV file that grows; it plays at once."""
    if not prediction.live:
        raise HTTPException(409, 'This prediction was created without "stream": true; read its output instead.')
    # For nginx: pass on each piece as it comes.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_sound(prediction, services), media_type="audio/wav", headers=headers)


async def _stream(prediction: Prediction, services: Services, after: str) -> AsyncIterator[ServerSentEvent]:
    known, ended = after, False
    async for event in services.followers.follow(prediction.id, after):
        parts = _parts(event, prediction, services)
        for part in parts[:-1]:
            # One entry, several events: only with the last of them is the entry's place reached.
            yield ServerSentEvent(event=part[0], raw_data=part[1], id=known)
        yield ServerSentEvent(event=parts[-1][0], raw_data=parts[-1][1], id=event.id)
        known, ended = event.id, event.ends
    if not ended:
        # It had ended before, or has been deleted: whoever reconnects is told to stop.
        yield ServerSentEvent(event="done", raw_data="{}", id=known)


def _parts(event: Event, prediction: Prediction, services: Services) -> list[tuple[str, str]]:
    """Names and data of what an event becomes on the wire."""
    match event.name:
        case EventName.PROGRESS:
            done, total = json.loads(event.data)
            data = {"completed_steps": done, "total_steps": total, "fraction": round(done / max(total, 1), 4)}
        case EventName.AUDIO:
            chunk = Chunk.from_json(event.data)
            data = {**chunk.__dict__, "url": object_url(prediction, services.storage, chunk.key(prediction.id))}
        case EventName.STATUS:
            ending = _ending(event.outcome, services) if event.ends else []
            return [("status", json.dumps({"status": event.data})), *ending]
        case EventName.LOGS:
            return [("logs", event.data)]
    return [(event.name, json.dumps(data))]


def _ending(prediction: Prediction | None, services: Services) -> list[tuple[str, str]]:
    if prediction and prediction.output_key:
        return [("output", object_url(prediction, services.storage, prediction.output_key)), ("done", "{}")]
    if prediction and prediction.status is Status.FAILED:
        return [("error", json.dumps({"detail": prediction.error})), ("done", "{}")]
    return [("done", "{}")]


async def _sound(prediction: Prediction, services: Services) -> AsyncIterator[bytes]:
    """A WAV file of one attempt's chunks. It ends early where the attempt does: another one's are another file."""
    begun = False
    wanted = prediction.attempt + (prediction.status is Status.STARTING)
    async for event in services.followers.follow(prediction.id):
        if begun and event.name is EventName.STATUS:
            return
        if event.name is not EventName.AUDIO or (chunk := Chunk.from_json(event.data)).attempt < wanted:
            continue
        try:
            # Storages are hashed by identity, which their interface does not say.
            header, samples = await run_in_threadpool(_chunk, services.storage, chunk.key(prediction.id))  # type: ignore[arg-type]
        except (ObjectNotFound, StorageError) as error:
            # The status line has long been sent; a shorter file is all that can be said.
            logger.warning("The sound of %s ends early: %s", prediction.id, error)
            return
        yield samples if begun else header + samples
        begun = True


@lru_cache(maxsize=64)
def _chunk(storage: AudioStorage, key: str) -> tuple[bytes, bytes]:
    """A chunk's samples at 16 bits, and the header of a file that begins with them. Kept for other listeners."""
    content = storage.open(key)
    return streaming_header(content), pcm16(content)
