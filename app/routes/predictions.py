"""Create, read, list, cancel and delete predictions."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app import files
from app.auth import Owner
from app.bodies import PredictionPage, PredictionRequest
from app.live.waiting import wait_seconds
from app.problems import Problem
from app.services import InjectedServices, Services
from predictions.errors import (
    FieldError,
    IdempotencyMismatch,
    InvalidInput,
    PredictionExists,
    PredictionNotFound,
    QueueFull,
)
from predictions.models.inputs import check_abilities, check_duration, with_defaults
from predictions.record import commands
from predictions.record.commands import Cursor
from predictions.record.prediction import ID_PATTERN, NewPrediction, Prediction, new_id, output_prefix
from predictions.record.schema import Outcome
from predictions.representation import PredictionBody, represent

REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The token is missing or wrong."},
    422: {"model": Problem, "description": "A field is wrong; `errors` names it and what to send instead."},
    503: {"model": Problem, "description": "Nothing was accepted; try again after `Retry-After` seconds."},
}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "This token has no such thing."}}
UNREADABLE: dict[int | str, dict[str, Any]] = {400: {"model": Problem, "description": "The body cannot be read."}}
CREATED: dict[int | str, dict[str, Any]] = {
    200: {"model": PredictionBody, "description": "It ended while you waited, or had ended before."},
    202: {"model": PredictionBody, "description": "Accepted; poll `urls.get`."},
    **UNREADABLE,
}

router = APIRouter(tags=["predictions"], responses=REFUSALS)

PredictionId = Annotated[str, Path(pattern=ID_PATTERN, description="The prediction's id.")]
Prefer = Annotated[
    str | None,
    Header(description="`wait` or `wait=n`: answer when it has ended, after n seconds at the latest."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(max_length=255, description="Repeat a request with the same key and it is carried out only once."),
]


@router.post("/predictions", status_code=202, response_model=PredictionBody, responses=CREATED)
async def create_prediction(
    request: Request,
    body: PredictionRequest,
    owner: Owner,
    services: InjectedServices,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ask for music. The answer comes at once, with `urls.get` to poll; with `Prefer: wait` it comes with the music."""
    prediction = await create(
        request, services, owner, body, services.base_url(request), idempotency_key=idempotency_key
    )
    return await answer_created(prediction, services, prefer)


@router.put(
    "/predictions/{prediction_id}",
    status_code=202,
    response_model=PredictionBody,
    responses=CREATED | {409: {"model": Problem, "description": "The id is taken by a prediction with another body."}},
)
async def create_prediction_with_id(
    request: Request,
    prediction_id: PredictionId,
    body: PredictionRequest,
    owner: Owner,
    services: InjectedServices,
    prefer: Prefer = None,
) -> Response:
    """Ask for music under an id of your own. Repeating the request changes nothing."""
    prediction = await _create(services, owner, body, services.base_url(request), prediction_id=prediction_id)
    return await answer_created(prediction, services, prefer)


@router.get("/predictions/{prediction_id}", response_model=PredictionBody, responses=MISSING)
async def get_prediction(prediction_id: PredictionId, owner: Owner, services: InjectedServices) -> Response:
    """The prediction as it stands."""
    return await answer(await owned(services, owner, prediction_id), services)


@router.get("/predictions")
async def list_predictions(
    request: Request,
    owner: Owner,
    services: InjectedServices,
    cursor: Annotated[str | None, Query(max_length=200, description="From `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Predictions on a page.")] = 50,
) -> PredictionPage:
    """This token's predictions, newest first."""
    return await page_of(services, owner, services.base_url(request), cursor, limit)


@router.post("/predictions/{prediction_id}/cancel", response_model=PredictionBody, responses=MISSING)
async def cancel_prediction(prediction_id: PredictionId, owner: Owner, services: InjectedServices) -> Response:
    """Stop a prediction that waits or runs. One that has ended stays as it is."""
    return await answer(await cancelled(services, owner, prediction_id), services)


@router.delete("/predictions/{prediction_id}", status_code=204, responses=MISSING)
async def delete_prediction(prediction_id: PredictionId, owner: Owner, services: InjectedServices) -> None:
    """Delete a prediction and its audio now; one that waits or runs is cancelled first."""
    await owned(services, owner, prediction_id)
    await services.store.run(commands.cancel(prediction_id))
    # The audio first: should storage fail, the record is still there to try again with.
    await run_in_threadpool(services.storage.delete_prefix, output_prefix(prediction_id))
    await services.store.run(commands.delete(prediction_id))


async def create(
    request: Request,
    services: Services,
    owner: str,
    body: PredictionRequest,
    base_url: str,
    *,
    idempotency_key: str | None = None,
    stream_url: bool = False,
) -> Prediction:
    """Accept a request, or find the prediction that it made before; raises what stands in its way.

    `stream_url`: it gets `urls.stream` even where its sound is not wanted while it is made.
    """
    if idempotency_key is not None:
        return await _create(services, owner, body, base_url, idempotency_key=idempotency_key, stream_url=stream_url)
    async with services.lost_answers.expecting(request, owner, body.digest()) as answer:
        answer.prediction = await _create(services, owner, body, base_url, stream_url=stream_url, take_offered=True)
    return answer.prediction


async def _create(
    services: Services,
    owner: str,
    body: PredictionRequest,
    base_url: str,
    *,
    prediction_id: str | None = None,
    idempotency_key: str = "",
    stream_url: bool = False,
    take_offered: bool = False,
) -> Prediction:
    prediction_id = prediction_id or new_id()
    model = await services.models.for_version(body.version)
    given = with_defaults(body.input, model.entry.defaults)
    check_duration(given, services.settings.max_duration)
    check_abilities(given, model.card)
    if body.webhook is not None:
        files.check_foreign_url("webhook", body.webhook, services)
    value, input_file = await files.resolve(services, owner, base_url, given)
    created = await services.store.run(
        commands.create(
            NewPrediction(
                id=prediction_id,
                owner=owner,
                digest=body.digest(),
                input=value.with_seed().model_dump(mode="json"),
                input_file=input_file,
                model=model.name,
                version=model.card.version,
                queue=model.entry.queue,
                base_url=base_url,
                webhook=body.webhook_target(),
                stream_token=new_id() if body.stream or stream_url else None,
                live=body.stream,
            ),
            idempotency_key=idempotency_key,
            remember_seconds=services.settings.remember_seconds,
            max_queued=services.settings.max_queued,
            take_offered=take_offered,
        )
    )
    return accepted(created, prediction_id)


def accepted(created: commands.Created, prediction_id: str) -> Prediction:
    """The prediction that now stands; raises what stood in its way."""
    match created.outcome:
        case Outcome.CONFLICT:
            raise PredictionExists(prediction_id)
        case Outcome.MISMATCH:
            raise IdempotencyMismatch(prediction_id)
        case Outcome.FULL:
            raise QueueFull("as many predictions wait as MUSICGEN_MAX_QUEUED allows")
        case _:
            assert created.prediction is not None
            return created.prediction


async def page_of(services: Services, owner: str, base_url: str, cursor: str | None, limit: int) -> PredictionPage:
    """A page of the owner's predictions; raises InvalidInput for a cursor that is not ours."""
    start = _parse_cursor(cursor) if cursor else commands.FIRST_PAGE
    page, following = await services.store.run(commands.list_page(owner, start, limit))
    after = None
    if following is not None:
        after = f"{base_url}/predictions?cursor={_format_cursor(following)}&limit={limit}"
    results = [represent(item, services.storage, await services.forecasts.of(item)) for item in page]
    return PredictionPage(previous=None, next=after, results=results)


async def cancelled(services: Services, owner: str, prediction_id: str) -> Prediction:
    """The prediction after it has been cancelled, or as it had ended before; raises PredictionNotFound."""
    await owned(services, owner, prediction_id)
    await services.store.run(commands.cancel(prediction_id))
    return await owned(services, owner, prediction_id)


async def answer_created(prediction: Prediction, services: Services, prefer: str | None) -> Response:
    """The answer to a request that created it, or found it created; waits where it was asked to."""
    seconds = wait_seconds(prefer)
    if seconds and not prediction.status.is_terminal:
        prediction = await services.ended.wait(prediction, seconds)
    return await answer(prediction, services, 200 if prediction.status.is_terminal else 202)


async def answer(prediction: Prediction, services: Services, status: int = 200) -> Response:
    """The prediction as a client sees it."""
    estimate = await services.forecasts.of(prediction, just_accepted=status == 202)
    # Written by pydantic's own serializer: FastAPI's would validate the body a second time on the hottest path.
    body = represent(prediction, services.storage, estimate).model_dump_json()
    return Response(body, status, media_type="application/json")


async def owned(services: Services, owner: str, prediction_id: str) -> Prediction:
    """The prediction; raises PredictionNotFound where it is not this owner's."""
    prediction = await services.store.run(commands.get(prediction_id))
    if prediction.owner != owner:
        raise PredictionNotFound(prediction_id)
    return prediction


def _format_cursor(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(f"{cursor.score} {cursor.prediction_id}".encode()).decode().rstrip("=")


def _parse_cursor(text: str) -> Cursor:
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        score, _, prediction_id = decoded.partition(" ")
        float(score)
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(FieldError("cursor", "is not one of ours", "follow `next` of the page before")) from error
    return Cursor(score, prediction_id)
