"""Pages of predictions, and the cursors that lead from one to the next."""

from __future__ import annotations

import base64
import re

from pydantic import BaseModel, Field

from app import predictions
from app.services import Services
from predictions.errors import FieldError, InvalidInput
from predictions.record.commands import FIRST_PAGE, Cursor
from predictions.record.prediction import ID_PATTERN
from predictions.representation import PredictionBody, represent

_CURSOR = re.compile(rf"(?P<score>[0-9]{{1,17}}(?:\.[0-9]{{1,17}})?) (?P<id>{ID_PATTERN.strip('^$')})")


class PredictionPage(BaseModel):
    """A page of predictions, newest first."""

    previous: str | None = Field(description="Always null: there are links to the next page only.")
    next: str | None = Field(description="URL of the next page; null on the last one.")
    results: list[PredictionBody]


async def page_of(services: Services, owner: str, base_url: str, cursor: str | None, limit: int) -> PredictionPage:
    """Return a page of the owner's predictions; raises InvalidInput for a cursor that is not ours."""
    start = _parse(cursor) if cursor else FIRST_PAGE
    page, following = await predictions.list_page(services, owner, start, limit)
    after = f"{base_url}/predictions?cursor={_format(following)}&limit={limit}" if following else None
    results = [represent(item, services.storage, await services.forecasts.of(item)) for item in page]
    return PredictionPage(previous=None, next=after, results=results)


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
