"""What clients do with predictions, without HTTP: the use cases that `routes/` and `replicate/` both call.

Every function that takes an owner raises PredictionNotFound for a prediction that belongs to another one. Some take a
kind: what they do with predictions, they do with trainings too, each under its own ids.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from anyio import to_thread

from app import files, fine_tunes
from app.retries.connection import Connection
from app.services import Services
from predictions.errors import (
    AcceptanceUnknown,
    FieldError,
    FileNotFound,
    IdempotencyMismatch,
    InvalidInput,
    NotRepeatable,
    PredictionExists,
    PredictionNotFound,
    QueueFull,
    SecondsUsedUp,
    StorageError,
    StorageLimitReached,
    StoreFull,
    StoreUnavailable,
    TooManyWaiting,
    TrainingNotFound,
)
from predictions.models.inputs import Input, check_abilities, check_adapter_strength, check_duration, with_defaults
from predictions.observability import life
from predictions.observability.logs import FIELDS
from predictions.record import commands
from predictions.record.commands import Created, Cursor
from predictions.record.prediction import NewPrediction, Prediction, Webhook, new_id, output_prefix
from predictions.record.schema import Kind, Outcome
from predictions.tenants import Limits
from predictions.webhooks import deliveries
from predictions.webhooks.deliveries import Delivery

NOT_FOUND = {Kind.PREDICTION: PredictionNotFound, Kind.TRAINING: TrainingNotFound}
WAITING_RETRY_SECONDS = 5
"""When to try again where as many wait as may."""


@dataclass(frozen=True)
class Submission:
    """Who asks for a prediction, how a repetition of the request is recognized, and how its client follows it."""

    owner: str
    base_url: str
    """The address of that part of the API by which the request came."""
    digest: str
    """The same for two requests with the same body, and only for these."""
    prediction_id: str | None = None
    """An id of the client's own choice."""
    idempotency_key: str | None = None
    webhook: Webhook | None = None
    live: bool = False
    """Whether its sound is wanted while it is made."""
    stream_url: bool = False
    """Whether it gets a URL to follow it by even where its sound is not wanted."""
    priority: int = 0
    """Among the predictions of its owner, those with a higher one are taken first."""
    cancel_after: float | None = None
    """Seconds after which it is cancelled, unless it has ended."""


async def create(
    services: Services,
    submission: Submission,
    value: Input,
    version: str | None = None,
    *,
    connection: Connection | None = None,
) -> Prediction:
    """Accept a prediction, or find the one that the same request made before.

    `version` is a reference to a model or a fine-tune; None stands for the default model. `connection`: the answer goes
    through it; should it break, the next identical request gets this prediction (decision 0013). A request with an
    Idempotency-Key has no need of that.

    Raises InvalidInput, FileNotFound, PredictionExists, IdempotencyMismatch, NoModel, QueueFull, LimitReached,
    StorageLimitReached, StoreFull, AcceptanceUnknown.
    """
    prepare = partial(_new_prediction, services, submission, value, version)
    return await accept(services, submission, value.input_audio, prepare, connection=connection)


async def accept(
    services: Services,
    submission: Submission,
    uri: str | None,
    prepare: Callable[[], Awaitable[NewPrediction]],
    *,
    connection: Connection | None = None,
) -> Prediction:
    """Accept what `prepare` returns once it has checked the request, or find what the same request made before.

    `uri`: the file that the request names, as it names it. `connection`: as for `create`. Raises what `prepare` raises,
    PredictionExists, IdempotencyMismatch, QueueFull, LimitReached, StorageLimitReached, StoreFull, AcceptanceUnknown.
    """
    if connection is None or submission.idempotency_key is not None:
        return await _create(services, submission, uri, await prepare())
    async with services.lost_answers.expecting(connection, submission.owner, submission.digest) as answer:
        prediction = answer.prediction = await _create(services, submission, uri, await prepare(), take_offered=True)
    return prediction


async def rerun(services: Services, submission: Submission, prediction_id: str) -> Prediction:
    """Repeat a prediction that has ended, as a new one: the same input, seed included, the same version of its model.

    Raises NotRepeatable, and what `create` raises.
    """
    original = await read(services, submission.owner, prediction_id)
    if not original.status.is_terminal:
        raise NotRepeatable("It has not ended yet: wait for its end, or cancel it.")
    version = f"{original.model}:{original.version}"
    await _require_version(services, original.owner, version)
    if original.input_file is not None:
        await _require_file(services, original.owner, original.input_file)
    digest = hashlib.sha256(f"rerun {original.id} {submission.digest}".encode()).hexdigest()
    value, submission = Input.model_validate(original.input), replace(submission, digest=digest)
    prepare = partial(_new_prediction, services, submission, value, version, original)
    return await accept(services, submission, value.input_audio, prepare)


async def read(services: Services, owner: str, prediction_id: str, kind: Kind = Kind.PREDICTION) -> Prediction:
    """Return the prediction, or the training, as it stands; raises TrainingNotFound in that case."""
    with suppress(PredictionNotFound):
        found = await services.store.run(commands.get(prediction_id))
        if found.owner == owner and found.kind is kind:
            return found
    raise NOT_FOUND[kind](prediction_id)


async def read_with_token(services: Services, prediction_id: str, stream_token: str) -> Prediction:
    """Return the prediction for whoever has the token of its URLs; raises PredictionNotFound."""
    prediction = await services.store.run(commands.get(prediction_id))
    expected = prediction.stream_token or ""
    if not stream_token or not secrets.compare_digest(expected.encode(), stream_token.encode()):
        raise PredictionNotFound(prediction_id)
    return prediction


async def list_page(
    services: Services, owner: str, cursor: Cursor, limit: int, kind: Kind = Kind.PREDICTION
) -> tuple[list[Prediction], Cursor | None]:
    """Return a page of the owner's records of a kind, newest first, and the next page's cursor, None after the last."""
    return await services.store.run(commands.list_page(owner, cursor, limit, kind))


async def wait(services: Services, prediction: Prediction, seconds: float) -> Prediction:
    """Return the prediction once it has ended, or as it stands after that many seconds."""
    if prediction.status.is_terminal or not seconds:
        return prediction
    return await services.ended.wait(prediction, seconds)


async def cancel(services: Services, owner: str, prediction_id: str, kind: Kind = Kind.PREDICTION) -> Prediction:
    """Cancel a prediction, or a training, and return it; one that has ended stays as it is."""
    await read(services, owner, prediction_id, kind)
    await services.store.run(commands.cancel(prediction_id))
    return await read(services, owner, prediction_id, kind)


async def delete(services: Services, owner: str, prediction_id: str, kind: Kind = Kind.PREDICTION) -> None:
    """Delete a prediction, or a training, and its objects; one that waits or runs is cancelled first."""
    await read(services, owner, prediction_id, kind)
    await services.store.run(commands.cancel(prediction_id))
    # The audio first: should storage fail, the record is still there to try again with.
    await to_thread.run_sync(services.storage.delete_prefix, output_prefix(prediction_id))
    await services.store.run(commands.delete(prediction_id))


async def list_deliveries(
    services: Services, owner: str, prediction_id: str, kind: Kind = Kind.PREDICTION
) -> list[Delivery]:
    """Return the webhooks of a prediction, or a training, oldest first, with every attempt to deliver them."""
    await read(services, owner, prediction_id, kind)
    return await services.store.run(deliveries.of(prediction_id))


async def redeliver(
    services: Services, owner: str, prediction_id: str, delivery_id: str, kind: Kind = Kind.PREDICTION
) -> Delivery:
    """Send a webhook again, at once and with all its retries; raises DeliveryNotFound."""
    await read(services, owner, prediction_id, kind)
    return await services.store.run(deliveries.redeliver(prediction_id, delivery_id))


async def _create(
    services: Services, submission: Submission, uri: str | None, new: NewPrediction, *, take_offered: bool = False
) -> Prediction:
    file_id = new.input_file or ""
    tenant = services.tokens.tenant_of(submission.owner)
    try:
        with life.sending(new.queue, new.id) as traceparent:
            command = commands.create(
                replace(new, traceparent=traceparent),
                tenant=tenant,
                idempotency_key=submission.idempotency_key or "",
                remember_seconds=services.settings.remember_seconds,
                max_queued=services.settings.max_queued,
                max_stored_bytes=files.max_stored_bytes(tenant.limits),
                take_offered=take_offered,
            )
            created = await services.store.run(command)
    except StoreFull:
        raise
    except StoreUnavailable as error:
        raise AcceptanceUnknown(new.id) from error
    if files.is_data_uri(uri) and not (created.prediction and created.prediction.input_file == file_id):
        # The request was refused or repeated, and nobody will ask for the audio that came with it.
        with suppress(StorageError, StoreUnavailable):
            await files.delete(services, submission.owner, file_id)
    prediction = _accepted(created, new.id, tenant.limits)
    life.accepted(prediction)
    return prediction


async def _new_prediction(
    services: Services,
    submission: Submission,
    value: Input,
    version: str | None,
    original: Prediction | None = None,
) -> NewPrediction:
    """Check what is asked for, and store the audio that comes with it; `original`: the prediction that is repeated."""
    chosen = await fine_tunes.for_version(services, submission.owner, version)
    model = chosen.served
    value = value if original else with_defaults(value, model.defaults)
    check_duration(value, services.settings.max_duration)
    _check_allowance(value, services.tokens.tenant_of(submission.owner).limits)
    check_abilities(value, model.card)
    if not chosen.is_fine_tune:
        check_adapter_strength(value, model.name)
    if submission.webhook is not None:
        files.require_reachable(services, "webhook", submission.webhook.url)
    input_file = original.input_file if original else None
    if input_file is None and (uri := value.input_audio) is not None:
        max_bytes = services.settings.max_input_audio_bytes
        url, input_file = await files.resolve(
            services, submission.owner, submission.base_url, "input_audio", uri, max_bytes
        )
        value = value.model_copy(update={"input_audio": url})
    return NewPrediction(
        id=submission.prediction_id or new_id(),
        owner=submission.owner,
        digest=submission.digest,
        input=value.with_seed().model_dump(mode="json", exclude=None if chosen.is_fine_tune else {"adapter_strength"}),
        input_file=input_file,
        model=chosen.name,
        version=chosen.version,
        base=model.name if chosen.is_fine_tune else None,
        base_version=model.card.version if chosen.is_fine_tune else None,
        queue=model.entry.queue,
        base_url=submission.base_url,
        webhook=submission.webhook,
        stream_token=new_id() if submission.live or submission.stream_url else None,
        live=submission.live,
        rerun_of=original.id if original else None,
        origin=original.first_id if original else None,
        wanted_audio_sha256=original.audio_sha256 if original else None,
        request_id=FIELDS.get({}).get("request_id"),
        priority=submission.priority,
        cancel_after=submission.cancel_after,
    )


def _check_allowance(value: Input, limits: Limits) -> None:
    """Raise InvalidInput for more music than the tenant may ever have at once: it would be refused for ever."""
    if limits.seconds_a_day is not None and value.duration > limits.seconds_a_day:
        remedy = f"this token may ask for at most {limits.seconds_a_day:g} seconds of music in 24 hours"
        raise InvalidInput(FieldError("duration", f"is {value.duration}", remedy))


def _accepted(created: Created, prediction_id: str, limits: Limits) -> Prediction:
    """Return the prediction that now stands; raises what stood in its way."""
    match created.outcome:
        case Outcome.CONFLICT:
            raise PredictionExists(prediction_id)
        case Outcome.MISMATCH:
            raise IdempotencyMismatch(prediction_id)
        case Outcome.FULL:
            raise QueueFull("as many wait as MUSICGEN_MAX_QUEUED allows")
        case Outcome.STORAGE_FULL:
            raise StorageLimitReached(limits.stored_mb or 0.0)
        case Outcome.TENANT_FULL:
            raise TooManyWaiting(str(limits.waiting), WAITING_RETRY_SECONDS)
        case Outcome.USED_UP:
            raise SecondsUsedUp(f"{limits.seconds_a_day:g}", created.retry_after)
        case _:
            assert created.prediction is not None
            return created.prediction


async def _require_version(services: Services, owner: str, version: str) -> None:
    """Raise NotRepeatable unless the version is served."""
    try:
        await fine_tunes.for_version(services, owner, version)
    except InvalidInput as error:
        raise NotRepeatable(
            f"Its version, {version}, is no longer served. To have the current one make it, send its input to "
            "POST /predictions."
        ) from error


async def _require_file(services: Services, owner: str, file_id: str) -> None:
    """Raise NotRepeatable unless the uploaded file is still there."""
    try:
        await files.read(services, owner, file_id)
    except FileNotFound as error:
        raise NotRepeatable(
            f"Its input_audio, the file {file_id}, has been deleted. Send the audio and the input, seed included, to "
            "POST /predictions."
        ) from error
