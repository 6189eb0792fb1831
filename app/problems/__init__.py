"""Answer errors with RFC 9457 problem details, which name what is wrong and what to do."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from app.access import note_refusal
from app.problems import bodies, fields, paths, routes
from app.problems.shown import cut
from predictions.errors import (
    AcceptanceUnknown,
    DeliveryNotFound,
    FieldError,
    FileNotFound,
    FineTuneExists,
    FineTuneHasVersions,
    IdempotencyMismatch,
    InvalidInput,
    LimitReached,
    ModelNotFound,
    NoModel,
    NoTrainer,
    NotRepeatable,
    ObjectNotFound,
    PredictionError,
    PredictionExists,
    PredictionNotFound,
    QueueFull,
    RateExceeded,
    SecondsUsedUp,
    StorageError,
    StorageLimitReached,
    StoreFull,
    StoreUnavailable,
    TooManyFineTunes,
    TooManyWaiting,
    TrainingNotFound,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = "5"
MOST_ERRORS = 20
"""Errors in one answer."""
LONGEST_DETAIL = 1000
"""Characters of a detail that names no fields."""
LONGEST_TEXT = 400
"""Characters of one error's message and of its remedy."""
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""Between the words of a class's name."""


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
    (TrainingNotFound, 404, "No such training", "There is no training {0} for this token."),
    (PredictionNotFound, 404, "No such prediction", "There is no prediction {0} for this token."),
    (ModelNotFound, 404, "No such model", "There is no model {0} here; GET /models lists the models."),
    (FileNotFound, 404, "No such file", "There is no file {0} for this token."),
    (DeliveryNotFound, 404, "No such delivery", "This prediction has no webhook delivery {0}."),
    (ObjectNotFound, 404, "No such object", "There is nothing at this address, or it has been deleted."),
    (FineTuneExists, 409, "Name is taken", "There is a model {0} already; choose another name."),
    (
        FineTuneHasVersions,
        409,
        "Model has versions",
        "Only a model without versions can be deleted; DELETE each version of {0} first.",
    ),
    (
        TooManyFineTunes,
        409,
        "Too many models",
        "This token has {0} models, which is as many as may be; delete those that are not needed.",
    ),
    (NotRepeatable, 409, "Cannot be repeated", "{0}"),
    (PredictionExists, 409, "Id is taken", "A prediction {0} exists with another body; choose another id."),
    (
        IdempotencyMismatch,
        422,
        "Idempotency-Key reused",
        "This Idempotency-Key was used with another body; send a new key with a new body.",
    ),
    (
        RateExceeded,
        429,
        "Too many requests",
        "This token may change something {0} times a second; try again after as many seconds as Retry-After says.",
    ),
    (
        StorageLimitReached,
        507,
        "Storage limit reached",
        "What is kept for this token leaves no room for this: its files, outputs and adapters may take up {0} MB. "
        "Delete some by DELETE /files/ID and DELETE /predictions/ID, or wait until the oldest ones are deleted by "
        "themselves.",
    ),
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
    (QueueFull, 503, "Queue is full", "Too many are waiting; try again later."),
    (
        NoTrainer,
        503,
        "No worker trains",
        "No worker that trains {0} has ever announced itself: its operator can start one with "
        "`musicgen worker --trainings`.",
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
    problem = Problem(
        title=title, status=status, detail=detail, instance=cut(request.url.path, LONGEST_TEXT), errors=list(errors)
    )
    return JSONResponse(problem.model_dump(), status, headers, media_type=MEDIA_TYPE)


def too_large(request: Request, max_bytes: int | None) -> JSONResponse:
    """Return the answer to a body over the limit."""
    detail = f"The body is larger than {max_bytes} bytes; send a smaller one, or compress the audio."
    return problem_response(request, 413, "Too large", detail)


async def _prediction_error(request: Request, error: Exception) -> JSONResponse:
    for kind, status, title, detail in PROBLEMS:
        if isinstance(error, kind):
            note_refusal(request.scope, _WORDS.sub("_", kind.__name__).lower())
            if status == 503:
                logger.warning("%s: %s", title, error)
            headers = {"Retry-After": RETRY_AFTER_SECONDS} if status == 503 else None
            if isinstance(error, LimitReached):
                headers = {"Retry-After": str(error.retry_after)}
            return problem_response(request, status, title, cut(detail.format(error), LONGEST_DETAIL), headers=headers)
    raise error


async def _invalid_input(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InvalidInput)
    return _wrong_fields(request, error.errors)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    content_type = request.headers.get("content-type")
    if isinstance(error.body, bytes):
        return _unreadable(request, 415, bodies.wrong_type(content_type, wants_file=False))
    is_form = isinstance(error.body, FormData)
    if is_form and not (content_type or "").lower().startswith("multipart/form-data"):
        return _unreadable(request, 415, bodies.wrong_type(content_type, wants_file=True))
    if found[0]["type"] == "json_invalid":
        return _unreadable(request, 400, bodies.broken_json(error.body, found[0]["loc"][1], found[0]["ctx"]["error"]))
    model = None if is_form else routes.body_model(request)
    if fields.misplaced(error.body, model):
        found = [item for item in found if item["loc"] != ("body", "input")] or found
    shown = [fields.explain(item, model) for item in found[:MOST_ERRORS]]
    return _wrong_fields(request, shown, more=len(found) - len(shown))


def _wrong_fields(request: Request, found: Sequence[FieldError], more: int = 0) -> JSONResponse:
    """Answer 422 with the first of the errors; `more`: how many there are beside those in `found`."""
    note_refusal(request.scope, "invalid_input")
    more += len(found[MOST_ERRORS:])
    errors = [_field_problem(item) for item in found[:MOST_ERRORS]]
    detail = "; ".join(_sentence(item) for item in errors) + (f"; … and {more} more" if more else "")
    return problem_response(request, 422, "Invalid request", detail, errors)


def _unreadable(request: Request, status: int, error: FieldError) -> JSONResponse:
    problem = _field_problem(error)
    return problem_response(request, status, "Unreadable body", _sentence(problem), [problem])


def _field_problem(error: FieldError) -> FieldProblem:
    return FieldProblem(
        field=cut(error.field), message=cut(error.message, LONGEST_TEXT), remedy=cut(error.remedy, LONGEST_TEXT)
    )


def _sentence(problem: FieldProblem) -> str:
    return f"{problem.field} {problem.message}: {problem.remedy}"


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and error.detail == "Not Found":
        return problem_response(request, 404, "No such path", _missing_path(request, "There is no {0}."))
    if error.status_code == 405:
        allowed = ", ".join(routes.allowed(request))
        detail = _missing_path(request, f"There is no {{0}}; this path takes {allowed}.")
        return problem_response(request, 405, "Wrong method", detail, headers={"Allow": allowed})
    if error.status_code == 413 and error.detail == "Content Too Large":
        return too_large(request, request.app.max_body_size)
    if error.status_code == 400 and error.__cause__ is not None:
        return _unreadable(request, 400, bodies.unreadable(error.__cause__))
    headers = dict(error.headers) if error.headers else None
    return problem_response(
        request, error.status_code, "Request refused", cut(str(error.detail), LONGEST_DETAIL), headers=headers
    )


def _missing_path(request: Request, sentence: str) -> str:
    """Return what to say of a path that does not exist, with those that were most likely meant."""
    path = request.url.path
    near = paths.suggestions(request.method, path, request.app.state.operations)
    question = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"{sentence.format(f'{request.method} {cut(path)}')}{question} /docs lists every path."


async def _unexpected(request: Request, _error: Exception) -> JSONResponse:
    # Starlette logs the traceback itself; the client learns no internals.
    return problem_response(request, 500, "Internal error", "The server failed; its log says why.")


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error with problem details. To be called once all routes are there, which answers may suggest."""
    # Found here: it takes too long to be done while other requests wait.
    app.state.operations = tuple(routes.operations(app))
    app.add_exception_handler(InvalidInput, _invalid_input)
    app.add_exception_handler(PredictionError, _prediction_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)
