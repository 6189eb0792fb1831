"""Follow a prediction while it is made, by its events and its sound; and a training, by its events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import StreamingResponse

from app import predictions
from app.application import InjectedServices
from app.auth import Credentials, Owner, admit
from app.live.sound import growing_wav
from app.problems import Problem
from app.routes.parameters import PredictionId, TrainingId
from app.routes.responses import MISSING, REFUSALS, Responses
from app.services import Services
from predictions.observability import metrics
from predictions.record import commands
from predictions.record.events import Chunk, Event
from predictions.record.prediction import Prediction
from predictions.record.schema import EventName, Kind, Status
from predictions.representation import object_url
from predictions.tenants import Scope
from predictions.trainings.representation import represent as represent_training

router = APIRouter(tags=["streams"], responses=REFUSALS | MISSING)

NARROW = frozenset({"output", "logs", "error", "done"})
"""The events that Replicate's clients know; another name makes the Python one fail."""
SOUND: Responses = {
    200: {
        "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}},
        "description": "16-bit WAV of unknown length, sent as it is made.",
    },
    409: {"model": Problem, "description": "The prediction was created without `stream`."},
}

LastEventId = Annotated[
    str,
    Header(
        pattern=r"^[0-9]{1,15}-[0-9]{1,15}$",
        description="The id of the last event that you received; the stream goes on after it.",
    ),
]
StreamToken = Annotated[str | None, Query(max_length=100, description="From `urls.stream` or `urls.audio`.")]


async def _followed(
    request: Request,
    prediction_id: PredictionId,
    services: InjectedServices,
    credentials: Credentials,
    token: StreamToken = None,
) -> Prediction:
    """Return the prediction for its owner, or for whoever has the token of its URLs.

    Raises PredictionNotFound, 401, 403.
    """
    if token is not None:
        return await predictions.read_with_token(services, prediction_id, token)
    tenant = await admit(request, services, credentials, Scope.READ)
    return await predictions.read(services, tenant.owner, prediction_id)


async def _followed_training(training_id: TrainingId, owner: Owner, services: InjectedServices) -> Prediction:
    return await predictions.read(services, owner, training_id, Kind.TRAINING)


Followed = Annotated[Prediction, Depends(_followed)]
FollowedTraining = Annotated[Prediction, Depends(_followed_training)]


@router.get("/predictions/{prediction_id}/stream", response_class=EventSourceResponse)
async def stream_prediction(
    prediction: Followed, services: InjectedServices, last_event_id: LastEventId = commands.FIRST_EVENT
) -> AsyncIterable[ServerSentEvent]:
    """Follow a prediction to its end by server-sent events.

    They are `status`, `progress`, `logs` and `audio`, then `output` or `error`, and at last `done`.
    """
    async for event in _stream(prediction, services, last_event_id):
        yield event


@router.get("/trainings/{training_id}/stream", response_class=EventSourceResponse)
async def stream_training(
    training: FollowedTraining, services: InjectedServices, last_event_id: LastEventId = commands.FIRST_EVENT
) -> AsyncIterable[ServerSentEvent]:
    """Follow a training to its end by server-sent events.

    They are `status`, `progress` and `logs`, then `output`, which is that of the training, or `error`, and at last
    `done`.
    """
    async for event in _stream(training, services, last_event_id):
        yield event


@router.get("/streams/{prediction_id}", response_class=EventSourceResponse, include_in_schema=False)
async def stream_for_replicate(
    prediction: Followed, services: InjectedServices, last_event_id: LastEventId = commands.FIRST_EVENT
) -> AsyncIterable[ServerSentEvent]:
    """Follow a prediction by the events that Replicate's clients know: `output`, `logs`, `error`, `done`."""
    async for event in _stream(prediction, services, last_event_id):
        if event.event in NARROW:
            yield event


@router.get("/predictions/{prediction_id}/audio", response_class=StreamingResponse, responses=SOUND)
async def get_audio(prediction: Followed, services: InjectedServices) -> StreamingResponse:
    """Listen to the music while it is made, before normalization, as a WAV file that grows. It plays at once."""
    if not prediction.live:
        raise HTTPException(409, 'This prediction was created without "stream": true; read its output instead.')
    sound = _counted(growing_wav(services.store, services.followers, services.storage, prediction))
    # Asks nginx to pass on each piece as it comes.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(sound, media_type="audio/wav", headers=headers)


async def _counted(sound: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    with metrics.streams.labels("audio").track_inprogress():
        async for piece in sound:
            yield piece


async def _stream(prediction: Prediction, services: Services, after: str) -> AsyncIterator[ServerSentEvent]:
    known, ended = after, False
    with metrics.streams.labels("events").track_inprogress():
        async for event in services.followers.follow(prediction.id, after):
            parts = _parts(event, prediction, services)
            for part in parts[:-1]:
                # One entry, several events: only with the last of them is the entry's place reached.
                yield ServerSentEvent(event=part[0], raw_data=part[1], id=known)
            yield ServerSentEvent(event=parts[-1][0], raw_data=parts[-1][1], id=event.id)
            known, ended = event.id, event.ends
    if not ended:
        # It had ended before, or has been deleted: a client that reconnects learns to stop.
        yield ServerSentEvent(event="done", raw_data="{}", id=known)


def _parts(event: Event, prediction: Prediction, services: Services) -> list[tuple[str, str]]:
    """Return the names and data of the server-sent events that an event becomes."""
    match event.name:
        case EventName.PROGRESS:
            done, total = json.loads(event.data)
            data = {"completed_steps": done, "total_steps": total, "fraction": round(done / max(total, 1), 4)}
        case EventName.AUDIO:
            chunk = Chunk.from_json(event.data)
            shown = {name: value for name, value in asdict(chunk).items() if name != "token"}
            data = {**shown, "url": object_url(prediction, services.storage, chunk.key(prediction.id))}
        case EventName.STATUS:
            ending = _ending(event.outcome, services) if event.ends else []
            return [("status", json.dumps({"status": event.data})), *ending]
        case EventName.LOGS:
            return [("logs", event.data)]
    return [(event.name, json.dumps(data))]


def _ending(prediction: Prediction | None, services: Services) -> list[tuple[str, str]]:
    if prediction and prediction.kind is Kind.TRAINING and prediction.status is Status.SUCCEEDED:
        output = represent_training(prediction, services.storage).output
        return [("output", output.model_dump_json() if output else "null"), ("done", "{}")]
    if prediction and prediction.output_key:
        return [("output", object_url(prediction, services.storage, prediction.output_key)), ("done", "{}")]
    if prediction and prediction.status is Status.FAILED:
        return [("error", json.dumps({"detail": prediction.error})), ("done", "{}")]
    return [("done", "{}")]
