"""A prediction's events in the form that Replicate's clients read."""

from __future__ import annotations

from collections.abc import AsyncIterable

from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import StreamingResponse

from app.routes.predictions import MISSING, REFUSALS
from app.routes.streams import SOUND, Followed, LastEventId, get_audio, narrow_stream
from app.services import InjectedServices
from predictions import commands

router = APIRouter(tags=["streams"], responses=REFUSALS | MISSING)


@router.get("/streams/{prediction_id}", response_class=EventSourceResponse)
async def stream_prediction(
    prediction: Followed, services: InjectedServices, last_event_id: LastEventId = commands.FIRST_EVENT
) -> AsyncIterable[ServerSentEvent]:
    """What `urls.stream` leads to: `output`, `logs`, `error` and `done`."""
    async for event in narrow_stream(prediction, services, last_event_id):
        yield event


router.get("/predictions/{prediction_id}/audio", response_class=StreamingResponse, responses=SOUND)(get_audio)
