"""Answer errors with RFC 9457 problem details, which name what is wrong and what to do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match

from predictions.errors import (
    AcceptanceUnknown,
    DeliveryNotFound,
    FileNotFound,
    IdempotencyMismatch,
    InvalidInput,
    LimitReached,
    ModelNotFound,
    NoModel,
    NotRepeatable,
    ObjectNotFound,
    PredictionError,
    PredictionExists,
    PredictionNotFound,
    QueueFull,
    SecondsUsedUp,
    StorageError,
    StoreFull,
    StoreUnavailable,
    TooManyWaiting,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = "5"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str
    remedy: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldProblem] = Field(default_factory=list)


# Status, title and detail of each error of the domain; a subclass stands before its base.
PROBLEMS: tuple[tuple[type[PredictionError], int, str, str], ...] = (
    (PredictionNotFound, 404, "No such prediction", "There is no prediction {0} for this token."),
    (ModelNotFound, 404, "No such model", "There is no model {0} here; GET /models lists the models."),
    (FileNotFound, 404, "No such file", "There is no file {0} for this token."),
    (DeliveryNotFound, 404, "No such delivery", "This prediction has no webhook delivery {0}."),
    (ObjectNotFound, 404, "No such object", "There is nothing at this address, or it has been deleted."),
    (NotRepeatable, 409, "Cannot be repeated", "{0}"),
    (PredictionExists, 409, "Id is taken", "A prediction {0} exists with another body; choose another id."),
    (
        IdempotencyMismatch,
        422,
        "Idempotency-Key reused",
        "This Idempotency-Key was used with another body; send a new key with a new body.",
    ),
    (QueueFull, 503, "Queue is full", "Too many predictions are waiting; try again later."),
    (
        TooManyWaiting,
        429,
        "Too many waiting",
        "{0} predictions of this token wait, which is as many as may; try again when one of them has started.",
    ),
    (
        SecondsUsedUp,
        429,
        "Seconds used up",
        "This token may ask for {0} seconds of music in 24 hours, and too few are left for this request; ask for less, "
        "or try again after the seconds that Retry-After names.",
    ),
    (NoModel, 503, "No model yet", "No worker has announced {0} yet; try again in a few seconds."),
    (
        AcceptanceUnknown,
        503,
        "Perhaps accepted",
        "The prediction store did not say whether it accepted prediction {0}: GET /predictions/{0} tells. Repeated "
        "with the same Idempotency-Key, or by PUT with the same id, the request makes no second prediction.",
    ),
    (StoreFull, 503, "Store full", "The prediction store has no room, and nothing was changed; try again later."),
    (StoreUnavailable, 503, "Store unavailable", "The prediction store does not answer; try again later."),
    (StorageError, 503, "Storage unavailable", "The object storage did not answer; try again later."),
)


def problem_response(
    request: Request,
    status: int,
    title: str,
    detail: str,
    errors: Sequence[FieldProblem] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return the answer that carries the problem."""
    problem = Problem(title=title, status=status, detail=detail, instance=request.url.path, errors=list(errors))
    return JSONResponse(problem.model_dump(), status, headers, media_type=MEDIA_TYPE)


async def _prediction_error(request: Request, error: Exception) -> JSONResponse:
    for kind, status, title, detail in PROBLEMS:
        if isinstance(error, kind):
            if status == 503:
                logger.warning("%s: %s", title, error)
            headers = {"Retry-After": RETRY_AFTER_SECONDS} if status == 503 else None
            if isinstance(error, LimitReached):
                headers = {"Retry-After": str(error.retry_after)}
            return problem_response(request, status, title, detail.format(error), headers=headers)
    raise error


async def _invalid_input(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InvalidInput)
    fields = [FieldProblem(field=item.field, message=item.message, remedy=item.remedy) for item in error.errors]
    return _unprocessable(request, fields)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _unprocessable(request, [_field_problem(item) for item in error.errors()])


def _unprocessable(request: Request, fields: list[FieldProblem]) -> JSONResponse:
    detail = "; ".join(f"{item.field} {item.message}: {item.remedy}" for item in fields)
    return problem_response(request, 422, "Invalid request", detail, fields)


def _field_problem(item: dict[str, Any]) -> FieldProblem:
    """Turn one of pydantic's errors into words that say what to send."""
    path = [str(part) for part in item["loc"] if part not in ("body", "input")]
    field = ".".join(path) or "body"
    if item["type"] == "extra_forbidden":
        return FieldProblem(field=field, message="is not known", remedy="leave it out, or correct its name")
    if item["type"] == "missing":
        return FieldProblem(field=field, message="is missing", remedy="send it")
    if item["type"] == "json_invalid":
        return FieldProblem(field="body", message="is not valid JSON", remedy="send a JSON object")
    message = item["msg"][0].lower() + item["msg"][1:]
    shown = repr(item.get("input"))
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return FieldProblem(field=field, message=f"is {shown}", remedy=message.replace("input should", "it should"))


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    if error.status_code == 405:
        headers = {"Allow": ", ".join(_allowed(request))}
    return problem_response(request, error.status_code, "Request refused", str(error.detail), headers=headers)


def _allowed(request: Request) -> list[str]:
    """Return the methods of all routes at the request's path; Starlette names only those of the first."""
    routes: Sequence[BaseRoute] = request.app.routes
    return [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


async def _unexpected(request: Request, _error: Exception) -> JSONResponse:
    # Starlette logs the traceback itself; the client learns no internals.
    return problem_response(request, 500, "Internal error", "The server failed; its log says why.")


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error with problem details."""
    app.add_exception_handler(InvalidInput, _invalid_input)
    app.add_exception_handler(PredictionError, _prediction_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)
