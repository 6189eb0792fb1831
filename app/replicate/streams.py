"""The routes that `urls.stream` and `urls.audio` of a prediction created below /v1 lead to."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.sse import EventSourceResponse
from starlette.responses import StreamingResponse

from app.routes.responses import MISSING, REFUSALS
from app.routes.streams import SOUND, get_audio, stream_for_replicate

router = APIRouter(tags=["streams"], responses=REFUSALS | MISSING)

router.get("/streams/{prediction_id}", response_class=EventSourceResponse)(stream_for_replicate)
router.get("/predictions/{prediction_id}/audio", response_class=StreamingResponse, responses=SOUND)(get_audio)
