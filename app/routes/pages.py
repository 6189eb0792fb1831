"""Pages of predictions and trainings, and the cursors that lead from one to the next."""

from __future__ import annotations

import base64
import re

from pydantic import BaseModel, Field

from app import predictions
from app.services import Services
from predictions.errors import FieldError, InvalidInput
from predictions.record.commands import FIRST_PAGE, Cursor
from predictions.record.prediction import ID_PATTERN, Prediction
from predictions.record.schema import Kind
from predictions.representation import PredictionBody, represent
from predictions.trainings.representation import TrainingBody
from predictions.trainings.representation import represent as represent_training

_CURSOR = re.compile(rf"(?P<score>[0-9]{{1,17}}(?:\.[0-9]{{1,17}})?) (?P<id>{ID_PATTERN.strip('^$')})")


class PredictionPage(BaseModel):
    """A page of predictions, newest first."""

    previous: str | None = Field(description="Always null: there are links to the next page only.")
    next: str | None = Field(description="URL of the next page; null on the last one.")
    results: list[PredictionBody]


class TrainingPage(BaseModel):
    """A page of trainings, newest first."""

    previous: str | None = Field(description="Always null: there are links to the next page only.")
    next: str | None = Field(description="URL of the next page; null on the last one.")
    results: list[TrainingBody]


async def page_of(services: Services, owner: str, base_url: str, cursor: str | None, limit: int) -> PredictionPage:
    """Return a page of the owner's predictions; raises InvalidInput for a cursor that is not ours."""
    page, after = await _page(services, owner, f"{base_url}/predictions", cursor, limit, Kind.PREDICTION)
    results = [represent(item, services.storage, await services.forecasts.of(item)) for item in page]
    return PredictionPage(previous=None, next=after, results=results)


async def page_of_trainings(
    services: Services, owner: str, base_url: str, cursor: str | None, limit: int
) -> TrainingPage:
    """Return a page of the owner's trainings; raises InvalidInput for a cursor that is not ours."""
    page, after = await _page(services, owner, f"{base_url}/trainings", cursor, limit, Kind.TRAINING)
    return TrainingPage(
        previous=None, next=after, results=[represent_training(item, services.storage) for item in page]
    )


async def _page(
    services: Services, owner: str, url: str, cursor: str | None, limit: int, kind: Kind
) -> tuple[list[Prediction], str | None]:
    """Return a page of the list at a URL, and the URL of the next one."""
    start = _parse(cursor) if cursor else FIRST_PAGE
    page, following = await predictions.list_page(services, owner, start, limit, kind)
    return page, f"{url}?cursor={_format(following)}&limit={limit}" if following else None


def _format(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(f"{cursor.score} {cursor.prediction_id}".encode()).decode().rstrip("=")


def _parse(text: str) -> Cursor:
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        decoded = ""
    match = _CURSOR.fullmatch(decoded)
    if match is None:
        raise InvalidInput(FieldError("cursor", "is not one of ours", "follow `next` of the page before"))
    return Cursor(match["score"], match["id"])
